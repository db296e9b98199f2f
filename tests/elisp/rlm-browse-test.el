;;; rlm-browse-test.el --- Tests of moving about in a run, and back to it  -*- lexical-binding: t; -*-

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

;; Real key events in the buffer of the recorded run; places that are named
;; by bookmarks, desktops and links; the header line's bar; word of the end.

;;; Code:

(require 'rlm-test-lib)
(require 'bookmark)
(require 'desktop)
(require 'imenu)
(require 'org-colview)
(require 'rlm-limits)

(defmacro rlm-browse-test-with-run (buffer &rest body)
  "Evaluate BODY with BUFFER bound to the recorded run, which is shown."
  (declare (indent 1) (debug t))
  `(rlm-test-with
     (let ((,buffer (rlm-trajectory-create "Which?")))
       (switch-to-buffer ,buffer)
       (dolist (event (rlm-test-numbered (rlm-test-first-question)))
         (rlm-trajectory-push ,buffer event))
       (rlm-trajectory-flush ,buffer)
       (goto-char (point-min))
       ,@body)))

(defun rlm-browse-test-keys (keys)
  "Press KEYS and return the line where point is then."
  (execute-kbd-macro (kbd keys))
  (buffer-substring-no-properties (line-beginning-position) (line-end-position)))

(ert-deftest rlm-browse-test-keys-move-by-kind ()
  (rlm-browse-test-with-run buffer
    (should (string-prefix-p "** Iteration 1: First look" (rlm-browse-test-keys "t")))
    (should (string-prefix-p "**** Iteration 1: Child 4" (rlm-browse-test-keys "t")))
    (should-not (invisible-p (point)))
    (should (string-prefix-p "** Iteration 1" (rlm-browse-test-keys "T")))
    (should (string-prefix-p "*** Sub-call 1" (rlm-browse-test-keys "u")))
    (should (string-prefix-p "*** Child run 4" (rlm-browse-test-keys "C-u 4 u")))
    (should (string-prefix-p "*** Tool price" (rlm-browse-test-keys "U")))
    (goto-char (point-min))
    (should (equal "#+begin_src json" (rlm-browse-test-keys "o")))
    (should (equal "#+begin_src python" (rlm-browse-test-keys "o")))
    (should-not (invisible-p (point)))
    (should (equal "#+begin_src json" (rlm-browse-test-keys "O")))
    (should (string-prefix-p "*Code: error*" (rlm-browse-test-keys "b")))
    (should (string-prefix-p "*** Sub-call 3 (error" (rlm-browse-test-keys "b")))
    (should (string-prefix-p "*Code: error*" (rlm-browse-test-keys "B")))
    (should (equal "** Answer" (rlm-browse-test-keys "a")))
    (goto-char (point-max))
    (let ((here (point)))
      (should-error (rlm-browse-next-iteration 1) :type 'user-error)
      (should (= here (point))))))

(defun rlm-browse-test-shown ()
  "Return the levels of the headings that can be seen, and whether text can be."
  (save-excursion
    (let (levels text)
      (goto-char (point-min))
      (while (re-search-forward "^\\(\\*+\\) \\|^Yes:$" nil t)
        (unless (invisible-p (match-beginning 0))
          (if (match-string 1)
              (push (length (match-string 1)) levels)
            (setq text t))))
      (list (sort (delete-dups levels) #'<) text))))

(ert-deftest rlm-browse-test-keys-fold-to-a-level ()
  (rlm-browse-test-with-run buffer
    (rlm-browse-test-keys "4")
    (should (equal '((1 2 3 4 5) t) (rlm-browse-test-shown)))
    (save-excursion
      (re-search-forward ":RLM_RUN:")
      (should (invisible-p (point))))
    (rlm-browse-test-keys "3")
    (should (equal '((1 2 3) nil) (rlm-browse-test-shown)))
    (rlm-browse-test-keys "1")
    (should (equal '((1) nil) (rlm-browse-test-shown)))
    (rlm-browse-test-keys "2")
    (should (equal '((1 2) nil) (rlm-browse-test-shown)))
    ;; The answer with what is below it, whose properties are not to be read.
    (rlm-browse-test-keys "a")
    (should (search-forward "Models have read"))
    (should-not (invisible-p (point)))
    (search-backward ":RLM_READ:")
    (should (invisible-p (point)))))

(ert-deftest rlm-browse-test-next-error-goes-through-the-evidence ()
  (rlm-test-with
    (let* ((one (rlm-test-file "one.txt" "a\nb\n"))
           (two (rlm-test-file "two.txt" "c\nd\n"))
           (place (lambda (file line)
                    (list :location (list :uri (concat "file://" file) :range
                                          (list :start (list :line (1- line) :character 0)))
                          :path "p" :line line :quote "q")))
           (buffer (rlm-trajectory-create "x")))
      (dolist (event (rlm-test-numbered
                      (list (car (rlm-test-recorded))
                            (list :kind "answer" :node "0" :text "See." :partial :json-false
                                  :evidence (vector (funcall place one 2) (funcall place two 1))))))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (switch-to-buffer buffer)
      (let ((next-error-last-buffer buffer)
            (shown (lambda ()
                     (with-current-buffer (window-buffer)
                       (list (buffer-file-name) (char-after (window-point)))))))
        (first-error)
        (should (equal (list one ?b) (funcall shown)))
        (next-error)
        (should (equal (list two ?c) (funcall shown)))
        (should-error (next-error) :type 'user-error)
        (previous-error)
        (should (equal (list one ?b) (funcall shown)))
        ;; Who has followed the run to its end begins with the first place.
        (switch-to-buffer buffer)
        (goto-char (point-max))
        (next-error)
        (should (equal (list one ?b) (funcall shown)))))))

(ert-deftest rlm-browse-test-index ()
  (rlm-browse-test-with-run buffer
    (let ((index (imenu--make-index-alist t)))
      (should (equal '("Iterations" "Sub-calls" "Code" "What went wrong" "Answer")
                     (mapcar #'car (remove imenu--rescan-item index))))
      (should (= 5 (length (cdr (assoc "Iterations" index)))))
      (should (equal "print(len(context))" (car (nth 1 (cdr (assoc "Code" index))))))
      (imenu (assoc "Answer" index))
      (should (looking-at "\\*\\* Answer")))))

(ert-deftest rlm-browse-test-index-of-a-run-that-grows ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "Which?"))
          (events (rlm-test-first-question)))
      (switch-to-buffer buffer)
      (dolist (some (list (seq-take events 30) (seq-drop events 30)))
        (should-not (assoc "Answer" (imenu--make-index-alist t)))
        (dolist (event some)
          (rlm-trajectory-push buffer event))
        (rlm-trajectory-flush buffer))
      (should (assoc "Answer" (imenu--make-index-alist t))))))

(ert-deftest rlm-browse-test-column-view-and-search ()
  (rlm-browse-test-with-run buffer
    (should (equal '("0.1.1" "0.1.2")
                   (org-map-entries (lambda () (org-entry-get nil "RLM_NODE"))
                                    "RLM_NODE={.}+RLM_MODEL=\"small\"+RLM_TOKENS>0+RLM_TOKENS<100")))
    (should (equal '("0.1.4")
                   (org-map-entries (lambda () (org-entry-get nil "RLM_NODE"))
                                    "RLM_COST>0.005+RLM_DEPTH=1")))
    (goto-char (point-min))
    (org-columns)
    (re-search-forward "^\\* ")
    (should (equal "ITEM" (get-char-property (line-beginning-position) 'org-columns-key)))
    (should (equal "0.0324" (get-char-property (+ 2 (line-beginning-position))
                                               'org-columns-value)))
    (org-columns-quit)))

;;;; Places that have names

(ert-deftest rlm-browse-test-place-by-name ()
  (rlm-browse-test-with-run buffer
    (should-not (rlm-restore-node))
    (re-search-forward "^Is b bold")
    (should (equal "0.1.2" (rlm-restore-node)))
    (should (equal '("20260301-120000-c0ffee" "0.1.2" "Which files are *bold*,\nand why?" nil)
                   (rlm-restore-desktop-data nil)))
    (let ((org-stored-links nil))
      (call-interactively #'org-store-link)
      (should (equal '("rlm:20260301-120000-c0ffee#0.1.2"
                       "Sub-call 2: Which files are *bold*,\nand why?")
                     (car org-stored-links))))
    (goto-char (point-min))
    (rlm-restore-go "0.1.4.2")
    (should (looking-at "\\*\\*\\*\\* Iteration 2"))
    (should-not (invisible-p (point)))))

(ert-deftest rlm-browse-test-place-that-is-not-drawn-yet ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "x")))
      (switch-to-buffer buffer)
      (rlm-restore-go "0.1.2")
      (dolist (event (rlm-test-numbered (rlm-test-recorded)))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (should (looking-at "\\*\\*\\* Sub-call 2")))))

(ert-deftest rlm-browse-test-links-that-name-no-run ()
  (should-error (rlm-ol-open "../../etc/passwd") :type 'user-error)
  (should-error (rlm-ol-open "x y") :type 'user-error))

(ert-deftest rlm-browse-test-links-in-exports-are-their-description ()
  (pcase-dolist (`(,backend ,bare)
                 '((html "rlm:20260301-1_2#0.1") (md "rlm:20260301-1\\_2#0.1")
                   (latex "rlm:20260301-1\\_2\\#0.1") (ascii "rlm:20260301-1_2#0.1")
                   (odt "rlm:20260301-1_2#0.1")))
    (require (intern (format "ox-%s" backend)))
    (let ((text (org-export-string-as (concat "See [[rlm:20260301-1#0.1][the run]], "
                                              "or <rlm:20260301-1_2#0.1>.")
                                      backend t '(:with-sub-superscript nil))))
      (should (string-match-p (concat "See the run, or " (regexp-quote bare) "\\.") text))
      (should-not (string-match-p "href\\|](" text))))
  (require 'ox-org)
  (should (equal "See [[rlm:20260301-1#0.1][the run]].\n"
                 (org-export-string-as "See [[rlm:20260301-1#0.1][the run]]." 'org t))))

(ert-deftest rlm-browse-test-a-transcript-is-exported-whole ()
  (require 'ox-html)
  (rlm-browse-test-with-run buffer
    (let ((file (rlm-test-file "run.org" ""))
          (org-babel-load-languages '((python . t))))
      (rlm-transcript-write file)
      (with-current-buffer (find-file-noselect file)
        (let ((text (org-export-as 'html)))
          (should (string-match-p "src/a\\(?: \\|%20\\)b\\.py\">src/a b\\.py:12</a>" text))
          ;; What the code had printed, and nothing is run for it.
          (should (string-match-p "^1234000$" text)))))))

;; A part of a transcript too; but the links of others are Org's business.
(ert-deftest rlm-browse-test-links-to-lines-of-others-stay-as-they-are ()
  (require 'ox-html)
  (rlm-test-with
    (rlm-test-file "other.org" "* Top\n\n<<12>> The place.\n")
    (let* ((line "[[file:other.org::12][other.org:12]]")
           (export (lambda (text)
                     (with-temp-buffer
                       (org-mode)
                       (insert text)
                       (org-export-as 'html (eq ?# (aref text 0)) nil t))))
           (plain "href=\"other\\.html\">other\\.org:12</a>"))
      (should (string-match-p "href=\"other\\.html#[a-z0-9]+\">other\\.org:12</a>"
                              (funcall export line)))
      (should (string-match-p plain (funcall export (concat line " [[rlm:1-2][Why?]]"))))
      (should (string-match-p plain (funcall export (concat "#+filetags: :rlm:\n* Evidence\n"
                                                            line)))))))

;;;; The header line and the mode line

(defun rlm-browse-test-limited (&rest usage)
  "Return a run with limits that has USAGE, a plist of `rlm-run' slots."
  (apply #'rlm-run--make :status "running" :started (float-time)
         :limits '(:cost 1.0 :tokens 100000 :iterations 10 :subcalls 1000 :seconds 600)
         usage))

(ert-deftest rlm-browse-test-bar-shows-the-nearest-limit ()
  (should (equal '(:cost 0.5 1.0) (rlm-header-limit (rlm-browse-test-limited :cost 0.5))))
  (should (equal '(:tokens 90000 100000)
                 (rlm-header-limit (rlm-browse-test-limited :cost 0.5 :tokens 90000))))
  (should (eq :iterations (car (rlm-header-limit (rlm-browse-test-limited :cost nil
                                                                          :iterations 3)))))
  (let ((bar (rlm-header--bar (rlm-browse-test-limited :cost 0.5))))
    (should (string-match-p "\\`....\\(?:░\\|-\\)\\{4\\} 50% of \\$1\\.00\\'" bar))
    (should (eq 'rlm-header-good (get-text-property 0 'face bar)))
    (should (eq #'rlm-header--click
                (lookup-key (get-text-property 0 'local-map bar) [header-line mouse-1]))))
  (should (eq 'rlm-header-bad
              (get-text-property 0 'face (rlm-header--bar (rlm-browse-test-limited :cost 2.0)))))
  (with-temp-buffer
    (setq rlm-run-current (rlm-browse-test-limited :cost 0.5))
    (should (string-match-p "50%% of" (rlm-header-line))))
  (should-not (rlm-header--bar (rlm-run--make :status "done" :limits '(:cost 1.0)))))

(ert-deftest rlm-browse-test-limit-is-moved-by-keys ()
  (let (got)
    (cl-letf (((symbol-function 'rlm-set-limits)
               (lambda (_ limits) (setq got limits))))
      (rlm-raise-limit (rlm-browse-test-limited :cost 0.5))
      (should (equal '(:cost 1.25) got))
      (rlm-lower-limit (rlm-browse-test-limited :cost 0.1 :iterations 9))
      (should (equal '(:iterations 8) got))
      ;; A small number moves too.
      (let* ((limit 1)
             (run (rlm-browse-test-limited :cost 0.1)))
        (cl-letf (((symbol-function 'rlm-header-limit)
                   (lambda (_) (list :iterations 0 limit))))
          (rlm-raise-limit run)
          (should (equal '(:iterations 2) got))
          (setq limit 2)
          (rlm-lower-limit run)
          (should (equal '(:iterations 1) got))))
      (should-error (rlm-raise-limit (rlm-run--make :status "done")) :type 'user-error))))

(ert-deftest rlm-browse-test-mode-line-counts-live-runs ()
  (rlm-test-with
    (let ((global-mode-string '("" display-time-string))
          (one (rlm-trajectory-create "one"))
          (two (rlm-trajectory-create "two")))
      (rlm-header-count)
      (should (equal " rlm:2" (substring-no-properties rlm-header-mode-line)))
      (should (memq 'rlm-header-mode-line global-mode-string))
      (switch-to-buffer one)
      (rlm-header-visit)
      (should (eq two (current-buffer)))
      (rlm-trajectory-interrupt one "Gone.")
      (should (equal " rlm:1" (substring-no-properties rlm-header-mode-line)))
      (rlm-trajectory-interrupt two "Gone.")
      (should (equal '("" display-time-string) global-mode-string))
      (should-error (rlm-header-visit) :type 'user-error))))

;;;; Word of the end

(ert-deftest rlm-browse-test-end-out-of-sight-is-told ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "Why?"))
          (run (rlm-run--make :status "done" :question "Why <b>?" :seconds 40.0))
          (process-environment (cons "DBUS_SESSION_BUS_ADDRESS" process-environment))
          said)
      (cl-letf (((symbol-function 'message)
                 (lambda (format &rest arguments) (push (apply #'format format arguments) said))))
        (rlm-notify run buffer)
        (should (string-match-p "\\`rlm: Answered: Why <b>\\?" (car said)))
        (setq said nil)
        (setf (rlm-run-seconds run) 10.0)
        (rlm-notify run buffer)
        (should-not said)
        (let ((rlm-notify-seconds 5)) (rlm-notify run buffer))
        (should (= 1 (length said)))
        (let ((rlm-notify-seconds nil)) (rlm-notify run buffer))
        (switch-to-buffer buffer)
        (cl-letf (((symbol-function 'frame-focus-state) (lambda (&rest _) t)))
          (let ((rlm-notify-seconds 5)) (rlm-notify run buffer)))
        (should (= 1 (length said)))))
    (should (equal "a &lt;b&gt; &amp;" (rlm-notify--escaped "a <b> &")))))

(defun rlm-browse-test-told (seconds &optional replayed)
  "Return how often the end of a run that took SECONDS is told, out of sight.
If REPLAYED, it has ended long ago."
  (let ((buffer (rlm-trajectory-create "Why?"))
        (process-environment (cons "DBUS_SESSION_BUS_ADDRESS" process-environment))
        (events (rlm-test-first-question))
        (told 0))
    (when replayed
      (rlm-trajectory-expect buffer (plist-get (car (last events)) :seq)))
    (cl-letf (((symbol-function 'message)
               (lambda (format &rest arguments)
                 (when (string-prefix-p "rlm: Answered: " (apply #'format format arguments))
                   (cl-incf told)))))
      (dolist (event events)
        (rlm-trajectory-push buffer (if (equal "runEnded" (plist-get event :kind))
                                        (plist-put (copy-sequence event) :seconds seconds)
                                      event)))
      (rlm-trajectory-flush buffer))
    (should (equal "done" (rlm-run-status (rlm-run-in-buffer buffer))))
    told))

(ert-deftest rlm-browse-test-recorded-time-decides-whether-the-end-is-told ()
  (rlm-test-with
    (should (= 0 (rlm-browse-test-told 29.9)))
    (should (= 1 (rlm-browse-test-told 30.0)))
    (should (= 0 (rlm-browse-test-told 3000.0 t)))
    (let ((rlm-notify-seconds 2.5))
      (should (= 0 (rlm-browse-test-told 2.4)))
      (should (= 1 (rlm-browse-test-told 2.5))))))

(ert-deftest rlm-browse-test-desktop-is-asked-where-there-is-one ()
  (skip-unless (featurep 'dbusbind))
  (require 'notifications)
  (let ((process-environment (cons "DBUS_SESSION_BUS_ADDRESS=unix:path=/is/not/there"
                                   process-environment))
        got)
    (cl-letf (((symbol-function 'notifications-notify)
               (lambda (&rest arguments) (setq got arguments) 1)))
      (should (rlm-notify--desktop "Answered" "a & b" (current-buffer)))
      (should (equal "a &amp; b" (plist-get got :body)))
      (should (equal "rlm: Answered" (plist-get got :title))))
    (cl-letf (((symbol-function 'notifications-notify)
               (lambda (&rest _) (signal 'dbus-error '("No bus")))))
      (should-not (rlm-notify--desktop "Answered" "a" (current-buffer))))))

;;;; The keys at a glance

(ert-deftest rlm-browse-test-keys-are-listed-each-with-its-word ()
  (rlm-test-with
    (switch-to-buffer (rlm-trajectory-create "Why?"))
    (rlm-test-keys "?")
    (let ((text (rlm-test-buffer-text "*Help*"))
          (case-fold-search nil))
      (dolist (line '("^r +ask a further" "^3 +show their" "^C-c C-c +run" "^SPC +scroll" "^- +mark"))
        (should (string-match-p line text)))
      (should-not (string-match-p "remap\\|digit-argument\\|org-metadown\\| rlm-" text)))
    ;; A line leads to all that its command says of itself.
    (with-current-buffer "*Help*"
      (goto-char (point-min))
      (let ((case-fold-search nil))
        (re-search-forward "^P +"))
      (push-button (point)))
    (should (string-match-p "rlm-pause" (rlm-test-buffer-text "*Help*")))))

(provide 'rlm-browse-test)
;;; rlm-browse-test.el ends here
