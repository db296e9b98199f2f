;;; rlm-keys-test.el --- Tests that press every key  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; What a person presses, from one end to the other, with the real server.
;; The last test here is the last of all: it knows what the tests of this
;; Emacs have pressed, and fails where a command or key is not among that.

;;; Code:

(require 'rlm-test-lib)
(require 'bookmark)
(require 'dired)
(require 'help-mode)

(defmacro rlm-keys-test-in (buffer &rest body)
  "Evaluate BODY in BUFFER; regions are active, and no answers are kept."
  (declare (indent 1) (debug t))
  `(let ((transient-mark-mode t)
         (rlm-use-cache nil))
     (with-current-buffer ,buffer ,@body)))

(defun rlm-keys-test-harbour ()
  "Return a buffer that visits a file of a project."
  (call-process "git" nil nil nil "init" "-q" rlm-test-directory)
  (find-file-noselect (rlm-test-file "harbour.txt" "The harbour is old.\nIt is deep.\n")))

(defun rlm-keys-test-press (buffer &rest keys)
  "Press KEYS in BUFFER; return the buffer that is shown then."
  (with-current-buffer buffer
    (apply #'rlm-test-keys keys)
    (window-buffer)))

(defun rlm-keys-test-run (buffer &rest keys)
  "Press KEYS in BUFFER, and wait for the run that begins then; return its buffer."
  (let ((before (buffer-list)))
    (apply #'rlm-keys-test-press buffer keys)
    (rlm-test-wait (lambda ()
                     (seq-find (lambda (each)
                                 (and (not (memq each before)) (rlm-run-in-buffer each)))
                               (buffer-list)))
                   keys)))

(defun rlm-keys-test-row (buffer text)
  "Wait until BUFFER, a list, has a row with TEXT, and go there."
  (rlm-test-wait-text buffer (regexp-quote text))
  (switch-to-buffer buffer)
  (goto-char (point-min))
  (search-forward text)
  (beginning-of-line))

(defmacro rlm-keys-test-says (text &rest body)
  "Evaluate BODY, and wait until a message holds TEXT."
  (declare (indent 1) (debug t))
  `(let (said)
     (cl-letf (((symbol-function 'message)
                (lambda (format &rest arguments)
                  (when format
                    (push (apply #'format-message format arguments) said)))))
       ,@body
       (rlm-test-wait (lambda () (seq-some (lambda (each) (string-search ,text each)) said))
                      ,text))))

;;;; Asking

(ert-deftest rlm-keys-ask ()
  (rlm-test-with
    (rlm-keys-test-in (rlm-keys-test-harbour)
      (let ((file (current-buffer))
            (dired (dired-noselect rlm-test-directory)))
        (with-current-buffer dired
          (goto-char (point-min))
          (search-forward "harbour"))
        (pcase-dolist (`(,place ,keys ,question)
                       `((,file "C-c r b o n e RET" "one")
                         (,file "M-< C-SPC M-> C-c r r t w o RET" "two")
                         (,file "C-c r p t h r e e RET" "three")
                         (,file "C-c r f h a r b o u r . t x t RET RET f o u r RET" "four")
                         (,dired "C-c r d f i v e RET" "five")
                         (,file "C-c r a s i x RET" "six")))
          (let ((buffer (rlm-keys-test-press place keys)))
            (should (equal (list question "done")
                           (let ((run (rlm-test-wait-end buffer)))
                             (list (rlm-run-question run) (rlm-run-status run))))))
          (with-current-buffer file
            (deactivate-mark)))))))

;;;; The menu

(ert-deftest rlm-keys-menu ()
  (rlm-test-with-odd-server '()
    (let ((rlm-confirm nil))
      (rlm-keys-test-in (rlm-keys-test-harbour)
        (rlm-test-keys "C-c r t m d e a r RET s o d d RET f q w e n RET d 2 RET"
                       "b 0 . 5 RET t 9 RET i 3 RET A D N P f i r s t RET"
                       "R p f i r s t RET F e w + q W e l l ? RET RET")
        (rlm-test-wait (lambda () (rlm-test-requests "rlm/ask")))
        (let ((asked (car (rlm-test-requests "rlm/ask"))))
          (should (equal "Well?" (plist-get asked :question)))
          (should (= 1 (length (plist-get asked :sources))))
          (should (equal '(:rootModel "dear" :subModel "odd" :profile "qwen" :maxDepth 2
                           :approve t :direct t :noCache t :fresh t
                           :limits (:cost 0.5 :seconds 9 :iterations 3))
                         (plist-get asked :options))))
        (should (rlm-test-requests "rlm/estimate"))
        (should (equal "first" (caar (plist-get (rlm-settings--read) :presets))))
        ;; The same without the menu.
        (let ((rlm-root-model "odd"))
          (rlm-test-keys "M-x rlm-save-preset RET s e c o n d RET"))
        (rlm-test-keys "M-x rlm-ask-with-preset RET s e c o n d RET A n d ? RET")
        (rlm-test-wait (lambda () (= 2 (length (rlm-test-requests "rlm/ask")))))
        (should (equal '(:rootModel "odd" :noCache t)
                       (plist-get (cadr (rlm-test-requests "rlm/ask")) :options)))
        (rlm-test-keys "M-x rlm-delete-preset RET s e c o n d RET")
        (should-not (rlm-preset "second"))
        ;; What was set is remembered.
        (rlm-test-keys "M-x rlm-menu RET q L a s t ? RET RET")
        (rlm-test-wait (lambda () (= 3 (length (rlm-test-requests "rlm/ask")))))
        (should (equal "dear" (plist-get (plist-get (nth 2 (rlm-test-requests "rlm/ask")) :options)
                                         :rootModel)))))))

;;;; Collecting

(ert-deftest rlm-keys-collect ()
  (rlm-test-with
    (rlm-keys-test-in (rlm-keys-test-harbour)
      (let ((bookmark-default-file (rlm-test-file "bookmarks"))
            (bookmark-alist nil)
            (bookmark-save-flag nil)
            (here (current-buffer))
            (names (lambda () (mapcar #'rlm-item-name
                                      (rlm-collection-items rlm-collection-current)))))
        (bookmark-set "quay")
        (rlm-test-keys "M-x rlm-add-bookmark RET q u a y RET")
        (should (= 1 (length (funcall names))))
        (rlm-test-file "other.txt" "A boat.\n")
        (let ((list (rlm-keys-test-press here "C-c r x")))
          (rlm-keys-test-press list "+ o t h e r . t x t RET RET")
          (rlm-test-wait-text list "other.txt")
          (should (= 2 (length (funcall names))))
          (rlm-keys-test-press list "w b o a t s RET")
          (rlm-keys-test-press list "c")
          (should-not (funcall names))
          (rlm-keys-test-press list "l b o a t s RET")
          (should (= 2 (length (funcall names))))
          (let ((buffer (rlm-keys-test-press list "a W h a t ? RET")))
            (should (equal "done" (rlm-run-status (rlm-test-wait-end buffer)))))
          (rlm-test-keys "M-x rlm-delete-collection RET b o a t s RET y")
          (should-not (rlm-collection-names)))))))

(ert-deftest rlm-keys-add-a-page ()
  (rlm-test-with-models [(:role "root" :reply "x")]
    (let ((url (format "http://127.0.0.1:%s/v1/models"
                       (progn (string-match ":\\([0-9]+\\)/v1"
                                            (rlm-test-text (rlm-test-file "config.toml")))
                              (match-string 1 (rlm-test-text (rlm-test-file "config.toml")))))))
      (rlm-keys-test-in (rlm-keys-test-harbour)
        ;; Not before it is fetched: an Emacs that ends a connection just when its address has
        ;; been found may wait for ever for it to be found.
        (rlm-keys-test-says (format "rlm: %s was" url)
          (rlm-test-keys "M-x rlm-add-url RET" (mapconcat #'char-to-string url " ") "RET"))))))

;;;; The server and its models

(ert-deftest rlm-keys-lists-of-the-server ()
  (rlm-test-with
    (rlm-keys-test-in (rlm-keys-test-harbour)
      (let ((here (current-buffer)))
        ;; It starts the server.
        (rlm-keys-test-press here "C-c r ?")
        (rlm-test-wait-text rlm-doctor--buffer
                            "^\\(Everything that is needed works\\|[0-9]+ of\\)")
        (with-current-buffer rlm-doctor--buffer
          (goto-char (point-min))
          (should (re-search-forward "^server +ok +version 0\\.1\\.0" nil t))
          (should (> (count-lines (point) (point-max)) 3))
          (should (re-search-forward "loop" nil t)))
        (rlm-test-wait-end (rlm-keys-test-press here "C-c r b W h a t ? RET"))
        (let ((costs (rlm-keys-test-press here "C-c r c")))
          (should (equal "*rlm costs*" (buffer-name costs)))
          (rlm-test-wait (lambda () (not (buffer-local-value 'rlm-table--asking costs)))))
        (let ((models (rlm-keys-test-press here "C-c r m")))
          (rlm-keys-test-row models "offline/extractive")
          (rlm-keys-test-press models "RET")
          (rlm-test-wait-text "*rlm model*" "offline/extractive"))
        (rlm-keys-test-press here "C-c r s")
        (rlm-test-wait-text (rlm-test-wait (lambda () (get-buffer rlm-doctor--status-buffer)))
                            "process")
        (rlm-keys-test-press here "M-x rlm-server-show-log RET")
        (should (get-buffer-window rlm-server-log-buffer))
        (let ((process (rlm-rpc-process)))
          (rlm-keys-test-press here "M-x rlm-restart-server RET")
          (rlm-test-wait (lambda () (and (rlm-rpc-live-p)
                                         (not (eq process (rlm-rpc-process)))))))
        (rlm-keys-test-press here "M-x rlm-stop-server RET")
        (should-not (rlm-rpc-live-p))))))

;;;; A run

(defun rlm-keys-test-cells (&rest codes)
  "Return rules by which the root model gives CODES, in their order."
  (vconcat (mapcar (lambda (code)
                     (list :role "root" :times 1 :reply (concat "```repl\n" code "\n```\n")))
                   codes)))

(ert-deftest rlm-keys-steer ()
  (rlm-test-with-models
      (rlm-keys-test-cells "context\nx = 'y' * 20000" "x = 2" "x = 3" "x = 4" "FINAL('end')" "x"
                           "FINAL(x)")
    (let ((rlm-approve-code t))
      (rlm-keys-test-in (rlm-keys-test-harbour)
        (let* ((buffer (rlm-keys-test-press (current-buffer) "C-c r b W e l l ? RET"))
               (run (rlm-run-in-buffer buffer))
               (waits (lambda (node)
                        (rlm-test-wait (lambda () (rlm-run-waiting-cell run node 1)) node))))
          (funcall waits "0.1")
          (rlm-keys-test-press buffer "P")
          (rlm-test-wait (lambda () (rlm-run-paused run)))
          (rlm-keys-test-press buffer "i B r i e f RET")
          (rlm-keys-test-press buffer "M-x rlm-approve RET")
          (rlm-test-wait-text buffer "Your note\\*: Brief")
          (rlm-keys-test-press buffer "P")
          (funcall waits "0.2")
          ;; Variables, page by page.
          (let ((list (rlm-keys-test-press buffer "v")))
            (rlm-keys-test-row list "x ")
            (let ((value (rlm-keys-test-press list "RET")))
              (rlm-test-wait (lambda () (= 16384 (buffer-size value))))
              (rlm-keys-test-press value "RET")
              (rlm-test-wait (lambda () (= 20000 (buffer-size value))))))
          ;; Code of one's own, and edited, and rejected.
          (let ((code (rlm-keys-test-press buffer "x")))
            (rlm-keys-test-press code "p r i n t ( 6 * 7 ) C-c C-c"))
          (rlm-test-wait-text buffer "^42$")
          (let ((code (rlm-keys-test-press buffer "M-x rlm-edit-code RET")))
            (should (equal "x = 2\n" (with-current-buffer code (buffer-string))))
            (rlm-keys-test-press code "C-c C-c"))
          (funcall waits "0.3")
          (rlm-keys-test-press buffer "C-c C-k n o RET")
          (rlm-test-wait-text buffer "Rejected\\*: no")
          (funcall waits "0.4")
          ;; Limits.
          (let ((limit (lambda () (cadr (rlm-run-limits run))))
                (nearest (lambda () (nth 2 (rlm-header-limit run)))))
            (should (funcall limit))
            (dolist (change '((">" . >) ("<" . <)))
              (let ((before (funcall nearest)))
                (rlm-keys-test-press buffer (car change))
                (rlm-test-wait (lambda () (funcall (cdr change) (funcall nearest) before))))))
          (dolist (key '("L" "C-c r l"))
            (let ((cost (if (equal key "L") 7 8)))
              (rlm-keys-test-press buffer key
                                   (format "C o s t TAB RET %d RET" cost))
              (rlm-test-wait (lambda () (eql (float cost)
                                                    (plist-get (rlm-run-limits run) :cost))))))
          (rlm-keys-test-press (get-buffer-create "elsewhere") "M-x rlm-header-visit RET")
          (should (eq buffer (window-buffer)))
          (rlm-keys-test-press buffer "F")
          (should-not (buffer-local-value 'rlm-trajectory-follow buffer))
          (rlm-keys-test-press buffer "k")
          (should (equal "cancelled" (rlm-run-status (rlm-test-wait-end buffer)))))))))

(ert-deftest rlm-keys-child-run ()
  (rlm-test-with-models
      (vconcat (rlm-keys-test-cells "context\ntry:\n    rlm_query('Wait?', 'a text')
except Exception as error:\n    print('stopped')")
               (rlm-keys-test-cells "context" "FINAL('end')"))
    (let ((rlm-approve-code t)
          (rlm-max-depth 2))
      (rlm-keys-test-in (rlm-keys-test-harbour)
        (let* ((buffer (rlm-keys-test-press (current-buffer) "C-c r b W e l l ? RET"))
               (run (rlm-run-in-buffer buffer)))
          (rlm-test-wait (lambda () (rlm-run-waiting-cell run "0.1" 1)))
          (rlm-keys-test-press buffer "C-c C-c")
          (rlm-test-wait (lambda () (rlm-run-waiting-cell run "0.1.1.1" 1)))
          (rlm-keys-test-row buffer "Child run 1")
          (rlm-keys-test-press buffer "K")
          (rlm-test-wait-text buffer "^stopped$")
          (rlm-test-wait (lambda () (rlm-run-waiting-cell run "0.2" 1)))
          (rlm-keys-test-press buffer "C-u C-c C-c")
          (should (equal "end" (rlm-run-answer (rlm-test-wait-end buffer)))))))))

(ert-deftest rlm-keys-go-on ()
  (rlm-test-with-models
      (vconcat (rlm-keys-test-cells "context\nx = 1")
               [(:role "root" :reply "```repl\nFINAL(f'{x} it is')\n```\n")])
    (rlm-keys-test-in (rlm-keys-test-harbour)
      (let* ((rlm-limits '((iterations . 1)))
             (file (current-buffer))
             (buffer (rlm-keys-test-press file "C-c r b W e l l ? RET"))
             (ended (lambda (buffer)
                      (let ((run (rlm-test-wait-end buffer)))
                        (list (rlm-run-status run) (rlm-run-answer run)))))
             (begins (lambda (keys) (funcall ended (rlm-keys-test-run buffer keys)))))
        (should (equal "limit" (car (funcall ended buffer))))
        (setq rlm-limits nil)
        (rlm-keys-test-press buffer "c RET RET")
        (rlm-test-wait-text buffer "/Resumed on")
        (should (equal '("done" "1 it is") (funcall ended buffer)))
        (rlm-keys-test-press buffer "r M o r e ? RET")
        (rlm-test-wait-text buffer "^\\* More\\?")
        (funcall ended buffer)
        (with-current-buffer buffer
          (goto-char (point-min))
          (re-search-forward "^x = 1"))
        (rlm-keys-test-press buffer "M-x rlm-live-run-block RET")
        (rlm-test-wait-text buffer "^\\*\\* Your code 1")
        (rlm-keys-test-row buffer "** Iteration 2")
        (should (equal '("done" "1 it is") (funcall begins "f a SPC n o t e RET B r i e f RET")))
        ;; With the limit that was raised, and with the one that it began with.
        (should (equal "done" (car (funcall begins "R"))))
        (should (equal "limit" (car (funcall begins "A"))))
        (rlm-keys-test-says "Watch" (rlm-keys-test-press buffer "w 1 RET"))
        (rlm-keys-test-says "No longer" (rlm-keys-test-press buffer "C-u w"))
        (rlm-keys-test-says "marked as good" (rlm-keys-test-press buffer "+ g o o d RET"))
        (rlm-keys-test-says "marked as bad" (rlm-keys-test-press buffer "- b a d RET"))
        (rlm-keys-test-says "not marked" (rlm-keys-test-press buffer "M-x rlm-unmark RET"))
        (let ((transcript (rlm-run-transcript (rlm-run-in-buffer buffer))))
          (delete-file transcript)
          (rlm-keys-test-press buffer "s")
          (should (file-exists-p transcript)))
        (with-current-buffer buffer
          (let ((inhibit-read-only t))
            (erase-buffer)))
        (rlm-keys-test-press buffer "g")
        (rlm-test-wait-text buffer "^\\* More\\?")
        (funcall ended buffer)
        ;; About it.
        (with-current-buffer buffer
          (let ((here (lambda (keys)
                        (rlm-test-keys keys)
                        (buffer-substring (line-beginning-position) (line-end-position)))))
            (goto-char (point-min))
            (should (string-prefix-p "* Well?" (funcall here "n")))
            (should (string-prefix-p "** " (funcall here "n")))
            (should (string-prefix-p "* Well?" (funcall here "p")))
            (rlm-test-keys "1")
            (should (invisible-p (line-end-position)))
            (rlm-test-keys "RET")
            (should-not (invisible-p (line-end-position)))))))))

;;;; All runs

(ert-deftest rlm-keys-runs ()
  (rlm-test-with-models
      (rlm-keys-test-cells "context\nx = 1" "FINAL(x)" "import time\ntime.sleep(99)"
                           "FINAL(2)" "import time\ntime.sleep(99)")
    (rlm-keys-test-in (rlm-keys-test-harbour)
      (let* ((file (current-buffer))
             (buffer (rlm-keys-test-press file "C-c r b W e l l ? RET"))
             (end (lambda (buffer) (rlm-run-status (rlm-test-wait-end buffer))))
             list)
        (should (equal "done" (funcall end buffer)))
        (kill-buffer buffer)
        (setq buffer (rlm-keys-test-run file "C-c r o W e TAB RET"))
        (rlm-test-wait-text buffer "^\\*\\* Answer")
        (setq list (rlm-keys-test-press file "C-c r R"))
        (rlm-keys-test-row list "Well?")
        (rlm-keys-test-press list "m")
        (rlm-keys-test-row list "Well?")
        (should (eq ?* (with-current-buffer list (char-after))))
        (rlm-keys-test-press list "u")
        (rlm-keys-test-row list "Well?")
        (should (eq ?\s (with-current-buffer list (char-after))))
        (rlm-keys-test-press list "m U")
        (rlm-keys-test-row list "Well?")
        (should (eq ?\s (with-current-buffer list (char-after))))
        ;; One that goes on, cancelled from the list and from anywhere.
        (dolist (keys '("k" "C-c r k"))
          (setq buffer (rlm-keys-test-press file "C-c r b S l o w ? RET"))
          (rlm-test-wait-text buffer "time.sleep")
          (if (equal keys "k")
              (progn
                (rlm-keys-test-press list "g")
                (rlm-keys-test-row list "Slow?")
                (rlm-keys-test-press list keys))
            (rlm-keys-test-press file keys))
          (should (equal "cancelled" (funcall end buffer))))
        (dolist (keys '("R" "f 2 RET a SPC n o t e RET B r i e f RET"))
          (rlm-keys-test-row list "Well?")
          (funcall end (rlm-keys-test-run list keys)))
        (rlm-keys-test-row list "Well?")
        (rlm-keys-test-says "Watch" (rlm-keys-test-press list "w RET"))))))

;;;; Quitting

(defun rlm-keys-test-state ()
  "Return what a command that was quit must leave as it was."
  (list (rlm-run-live-buffers) rlm-context--spools rlm-client--asking
        (minibuffer-depth) rlm-collection-current (rlm-collection-names)
        (plist-get (rlm-settings--read) :presets)
        (seq-filter #'rlm-run-in-buffer (buffer-list))
        (directory-files-recursively (rlm-test-file "state/runs/") "")
        (mapcar (lambda (run) (plist-get run :mark))
                (plist-get (rlm-rpc-call 'rlm/runs nil 10) :runs))))

(ert-deftest rlm-keys-every-prompt-can-be-quit ()
  (rlm-test-with
    (rlm-keys-test-in (rlm-keys-test-harbour)
      (let* ((file (current-buffer))
             (dired (dired-noselect rlm-test-directory))
             (bookmark-default-file (rlm-test-file "bookmarks"))
             (bookmark-alist nil)
             (bookmark-save-flag nil)
             (rlm-root-model "offline/extractive")
             (run (rlm-keys-test-press file "C-c r b W e l l ? RET")))
        (rlm-test-wait-end run)
        (bookmark-set "quay")
        (rlm-add-files (list (rlm-test-file "harbour.txt")))
        (rlm-save-collection "boats")
        (rlm-save-preset "cheap")
        (let ((list (rlm-keys-test-press file "C-c r R"))
              (collection (rlm-keys-test-press file "C-c r x")))
          (with-current-buffer dired
            (goto-char (point-min))
            (search-forward "harbour"))
          (pcase-dolist
              (`(,place . ,prompts)
               `((,file "C-c r b" "C-c r b W" "C-u C-c r b" "C-u C-c r b RET" "C-u C-c r b RET RET"
                        "C-x h C-c r r" "C-c r p" "C-c r f" "C-c r f h a r b o u r . t x t RET"
                        "C-c r f h a r b o u r . t x t RET RET" "C-c r a" "C-c r o"
                        "M-x rlm-add-bookmark RET" "M-x rlm-add-files RET" "M-x rlm-add-url RET"
                        "M-x rlm-load-collection RET" "M-x rlm-delete-collection RET"
                        "M-x rlm-delete-collection RET b o a t s RET"
                        "M-x rlm-save-preset RET" "M-x rlm-delete-preset RET"
                        "M-x rlm-ask-with-preset RET" "M-x rlm-ask-with-preset RET c h e a p RET"
                        "M-x rlm-mark-good RET" "M-x rlm-fork-run RET" "M-x rlm-export-run RET")
                 (,dired "C-c r d" "C-c r a")
                 (,run "r" "r m" "C-u r" "+" "-" "w" "f" "f 1 RET" "C-u c" "C-u c C o s t TAB RET")
                 (,list "/" "s" "P" "e" "e h t m l RET" "D" "f" "f 1 RET" "w")
                 (,collection "+" "w" "l" "a")))
            (dolist (keys prompts)
              (with-current-buffer place
                (when (derived-mode-p 'tabulated-list-mode)
                  (rlm-keys-test-row place (if (eq place list) "Well?" "harbour")))
                (let* ((before (rlm-keys-test-state))
                       (asked nil)
                       (command-error-function #'ignore) ; which says "Quit" on a batch's output
                       (minibuffer-setup-hook (list (lambda () (setq asked t)))))
                  (condition-case nil
                      (rlm-test-keys keys "C-g")
                    (quit))
                  (should (equal (list keys t) (list keys asked)))
                  (should (equal (cons keys before) (cons keys (rlm-keys-test-state)))))))))))))

;;;; By mouse

(ert-deftest rlm-keys-click-on-a-column ()
  (rlm-test-with
    (rlm-runs)
    (with-current-buffer rlm-runs--buffer
      (rlm-test-wait (lambda () (not rlm-table--asking)))
      (let* ((names (car (last (ensure-list header-line-format))))
             (place (cons names (string-search "Cost" names))))
        (execute-kbd-macro
         (vector (list 'mouse-1 (list (selected-window) 'header-line '(0 . 0) 0 place))))
        (should (equal "Cost" (car tabulated-list-sort-key)))))))

;;;; All of them

(ert-deftest rlm-zz-every-command-and-key-was-pressed ()
  ;; The last in alphabetical order, in which ERT goes.  Alone, it knows nothing.
  (skip-unless (ert-test-most-recent-result (ert-get-test 'rlm-keys-ask)))
  (rlm-test-load-all)
  (let ((all (rlm-test-all-keys)))
    (should (> (length all) 200))
    (should-not (seq-remove (lambda (each) (gethash each rlm-test-pressed)) all))))

(provide 'rlm-keys-test)
;;; rlm-keys-test.el ends here
