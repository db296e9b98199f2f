;;; rlm-remote-test.el --- Tests of a server on another machine  -*- lexical-binding: t; -*-

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

;; The other machine is this one, reached by a method of TRAMP whose login
;; is a shell: everything but the wire between the two is as it is with ssh.

;;; Code:

(require 'rlm-test-lib)
(require 'tramp)
(require 'bookmark)
(require 'rlm-collection-list)
(require 'rlm-durable)

(defconst rlm-test-host (format "/rlmmock:%s:" (system-name))
  "What names of files on the other machine begin with.")

(add-to-list 'tramp-methods
             '("rlmmock" (tramp-login-program "sh") (tramp-login-args (("-i")))
               (tramp-remote-shell "/bin/sh") (tramp-remote-shell-args ("-c"))
               (tramp-connection-timeout 10)))

(defmacro rlm-test-remote (&rest body)
  "Evaluate BODY as the text of a test, with a tree on another machine."
  (declare (indent 0) (debug t))
  `(rlm-test-with
     (let* ((tramp-persistency-file-name (rlm-test-file "tramp"))
            (tramp-verbose 0)
            (rlm-server-host nil)
            (rlm-remote-server
             (list "/usr/bin/env"
                   (concat "RLM_STATE=" (rlm-test-file "there/state"))
                   (concat "RLM_CACHE=" (rlm-test-file "there/cache"))
                   (concat "RLM_CONFIG=" (rlm-test-file "config.toml"))
                   (concat "PYTHONPATH=" rlm-test-root)
                   rlm-test-python "-m" "rlm_server")))
       (rlm-test-file "tree/harbour.txt" "The harbour is old.\nThe keeper is called Odalys.\n")
       (rlm-test-file "tree/docs/boats.txt" "Boats leave at dawn.\n")
       (unwind-protect
           (progn ,@body)
         (rlm-rpc-stop)
         (setq rlm-server-host nil)
         (tramp-cleanup-all-connections)))))

(defun rlm-test-there (name)
  "Return the name of the file NAME of the test's directory on the other machine."
  (concat rlm-test-host (rlm-test-file name)))

(ert-deftest rlm-remote-a-directory-is-asked-about-where-it-is ()
  (rlm-test-remote
    (let* ((tree (rlm-test-there "tree/"))
           (buffer (rlm-ask-files "What is the keeper called?" (list tree)))
           (run (rlm-test-wait-end buffer)))
      (should (equal "done" (rlm-run-status run)))
      (should (equal rlm-test-host rlm-server-host))
      ;; Evidence and log are there, the transcript is here.
      (should (member (list (concat tree "harbour.txt") 2)
                      (mapcar (lambda (place) (list (nth 0 place) (nth 1 place)))
                              (rlm-run-evidence run))))
      (should (string-prefix-p (rlm-test-there "there/state/") (rlm-run-log run)))
      (should (file-exists-p (rlm-run-log run)))
      (should (string-prefix-p rlm-transcript-directory (rlm-run-transcript run)))
      (save-window-excursion
        (switch-to-buffer buffer)
        (goto-char (point-max))
        (re-search-backward "^- .*harbour\\.txt:2\\]")
        (rlm-trajectory-follow-link)
        (should (equal (concat tree "harbour.txt") buffer-file-name)))
      ;; A question about something here goes to a server here again.
      (let ((here (rlm-test-wait-end
                   (rlm-ask-files "When do boats leave?" (list (rlm-test-file "tree/docs"))))))
        (should (equal "done" (rlm-run-status here)))
        (should-not rlm-server-host)
        (should (string-prefix-p (rlm-test-file "state/") (rlm-run-log here))))
      ;; And the first run is drawn again from its log there.
      (with-current-buffer buffer
        (rlm-redraw)
        (rlm-test-wait (lambda () (and (equal rlm-test-host rlm-server-host)
                                       (rlm-rpc-info)
                                       (not (rlm-trajectory-replaying-p buffer))
                                       (string-match-p "Odalys" (buffer-string)))))))))

(ert-deftest rlm-remote-a-bookmark-leads-back-there ()
  (rlm-test-remote
    (let* ((buffer (rlm-ask-files "What is the keeper called?" (list (rlm-test-there "tree/"))))
           (bookmark-alist nil) (bookmark-save-flag nil)
           (run (rlm-test-wait-end buffer))
           record data)
      (with-current-buffer buffer
        (setq record (rlm-restore-bookmark)
              data (rlm-restore-desktop-data nil)))
      (kill-buffer buffer)
      (rlm-rpc-stop)
      (rlm-rpc-use-host nil)
      ;; A desktop doesn't log in anywhere by itself.
      (should-not (rlm-restore-desktop nil nil data))
      (should-not rlm-server-host)
      ;; Nor does a bookmark, for who wants no server there.
      (let (rlm-remote-server)
        (should-error (bookmark-jump (cons "far" (cdr record))) :type 'rlm-rpc-error)
        (should-not rlm-server-host))
      (bookmark-jump (cons "far" (cdr record)))
      (rlm-test-wait-end (current-buffer))
      ;; So does what goes on from there, by the names that the other machine has.
      (rlm-rpc-stop)
      (rlm-rpc-use-host nil)
      (let ((here (rlm-runs-here)))
        (should-not rlm-server-host)
        (should (equal rlm-test-host (plist-get here :host)))
        (should (string-prefix-p (rlm-test-file "there/state/") (plist-get here :log)))
        (should-not (rlm-durable--read-places here)))
      (should (equal (rlm-run-answer run) (rlm-run-answer (rlm-run-in-buffer))))
      (should (equal rlm-test-host (rlm-run-host (rlm-run-in-buffer)))))))

(ert-deftest rlm-remote-unsaved-text-is-spooled-there ()
  (rlm-test-remote
    (with-current-buffer (find-file-noselect (rlm-test-there "tree/harbour.txt"))
      (goto-char (point-max))
      (insert "The keeper is called Imre, unsaved.\n")
      (let* ((context (rlm-context-of-buffer))
             (path (plist-get (car (rlm-context-sources context)) :path)))
        (should (equal rlm-test-host (file-remote-p path)))
        (should (= #o700 (file-modes (file-name-directory path))))
        (rlm-context-release context)
        (should-not (file-exists-p path)))
      (let ((run (rlm-test-wait-end (rlm-ask-buffer "What is the keeper called?"))))
        (should (string-match-p "Imre" (rlm-run-answer run)))
        (should (equal (list (rlm-test-there "tree/harbour.txt"))
                       (delete-dups (mapcar #'car (rlm-run-evidence run))))))
      ;; The same as an overlay of a directory.
      (let ((run (rlm-test-wait-end
                  (rlm-ask-files "What is the keeper called?" (list (rlm-test-there "tree/"))))))
        (should (string-match-p "Imre" (rlm-run-answer run))))
      (with-current-buffer (find-buffer-visiting (rlm-test-there "tree/harbour.txt"))
        (set-buffer-modified-p nil)))
    (should-not (directory-files temporary-file-directory nil "\\`rlm-"))))

(ert-deftest rlm-remote-things-from-both-machines ()
  (rlm-test-remote
    (rlm-test-file "here.txt" "The keeper of the bridge is called Ulla.\n")
    (rlm-add-files (list (rlm-test-there "tree/") (rlm-test-file "here.txt")))
    (let ((run (rlm-test-wait-end (rlm-ask-collection "Who is the keeper of the bridge?"))))
      (should (equal "done" (rlm-run-status run)))
      (should (string-match-p "Ulla" (rlm-run-answer run))))
    ;; A directory here can't be read by a server there.
    (rlm-add-files (list (rlm-test-file "tree/docs")))
    (should (string-match-p "on another machine"
                            (cadr (should-error (rlm-ask-collection "Who?") :type 'user-error))))))

(ert-deftest rlm-remote-one-server-at-a-time ()
  (rlm-test-remote
    (rlm-test-file "here.txt" "text\n")
    (let ((buffer (rlm-ask-files "What?" (list (rlm-test-there "tree/")))))
      (should (rlm-run-live-p (rlm-run-in-buffer buffer)))
      (should (string-match-p "A run is going on at /rlmmock"
                              (cadr (should-error (rlm-ask-files "What?" (list (rlm-test-file
                                                                                "here.txt")))
                                                  :type 'user-error))))
      (rlm-test-wait-end buffer))))

;; An idle server here has variables that would be gone with it.
(ert-deftest rlm-remote-a-server-is-left-only-when-all-is-answered ()
  (rlm-test-remote
    (let* ((buffer (rlm-ask-files "What is the keeper called?" (list (rlm-test-there "tree/"))))
           (run (rlm-test-wait-end buffer))
           (log (file-local-name (rlm-run-log run)))
           (command-error-function #'ignore)
           here)
      (switch-to-buffer (rlm-runs))
      (rlm-test-wait (lambda () tabulated-list-entries))
      (rlm-rpc-use-host nil)
      (rlm-rpc-call 'rlm/status nil)
      (setq here (rlm-rpc-process))
      (pcase-dolist (`(,where . ,prompts)
                     `((,buffer "M-x rlm-delete-runs RET" "f 1 RET" "f 1 RET a SPC n o t e RET"
                                "w" "C-u c" "M-x rlm-export-run RET")
                       (,(current-buffer) "D" "f 1 RET" "w" "e" "e h t m l RET")))
        (dolist (keys prompts)
          (with-current-buffer where
            (goto-char (point-min))
            (condition-case nil
                (rlm-test-keys keys "C-g")
              (quit))
            (should (equal (list keys here nil) (list keys (rlm-rpc-process) rlm-server-host)))
            (should (process-live-p here)))))
      ;; What was listed there is deleted there.
      (should (file-exists-p log))
      (rlm-test-keys "D" "y e s RET")
      (rlm-test-wait (lambda () (not (file-exists-p log))) "the log is deleted")
      (should (equal rlm-test-host rlm-server-host))
      (should-not (process-live-p here)))))

(ert-deftest rlm-remote-an-ended-run-is-reached-again ()
  (rlm-test-remote
    (let* ((buffer (rlm-ask-files "What is the keeper called?" (list (rlm-test-there "tree/"))))
           (run (rlm-test-wait-end buffer))
           (leave (lambda ()
                    (rlm-rpc-use-host nil)
                    (rlm-rpc-call 'rlm/status nil)
                    (switch-to-buffer buffer))))
      (funcall leave)
      (goto-char (point-min))
      (re-search-forward "^ *#\\+begin_src python")
      (rlm-test-keys "e" "C-x h C-w" "print(6+7)" "C-c C-c")
      (rlm-test-wait-text buffer "^13$")
      (funcall leave)
      (rlm-test-keys "v")
      (rlm-test-wait-text (get-buffer "*rlm variables*") "[0-9] bytes\\|kB")
      (funcall leave)
      (rlm-test-keys "M-x rlm-mark-good RET RET")
      (rlm-test-wait (lambda ()
                       (plist-get (aref (plist-get (rlm-rpc-call 'rlm/runs nil) :runs) 0) :mark)))
      (funcall leave)
      (goto-char (point-max))
      (rlm-test-keys "r" "When SPC do SPC boats SPC leave? RET")
      (rlm-test-wait (lambda () (equal "When do boats leave?" (rlm-run-asked run))))
      (should (equal "done" (rlm-run-status (rlm-test-wait-end buffer)))))))

(ert-deftest rlm-remote-proposed-notes-are-there-and-take-no-window-away ()
  (rlm-test-remote
    (let ((proposal (list :changes [(:kind "Filter" :diff "+- Filter: first.\n")] :proposal "p"
                          :good 1 :bad 0 :model "" :path (rlm-test-file "there/notes.md"))))
      (rlm-rpc-use-host rlm-test-host)
      (switch-to-buffer (get-buffer-create "elsewhere"))
      ;; It comes while the user types somewhere else, where `a' accepts nothing.
      (rlm-reflect--show proposal (get-buffer "*scratch*"))
      (should (equal "elsewhere" (buffer-name (window-buffer))))
      (let ((window (get-buffer-window rlm-reflect--buffer)))
        (should window)
        ;; Its change is at point, also where the window has shown an older one.
        (dotimes (_ 2)
          (should (get-text-property (window-point window) 'rlm-reflect-change
                                     (window-buffer window)))
          (rlm-reflect--show proposal (get-buffer "*scratch*"))))
      (rlm-reflect--show proposal (window-buffer))
      (should (equal rlm-reflect--buffer (buffer-name (window-buffer))))
      (should (get-text-property (window-point) 'rlm-reflect-change (window-buffer)))
      ;; They stay there when another server is used meanwhile.
      (rlm-rpc-use-host nil)
      (set-buffer rlm-reflect--buffer)
      (rlm-test-keys "e")
      (should (equal (rlm-test-there "there/notes.md") (buffer-file-name (window-buffer))))
      (switch-to-buffer rlm-reflect--buffer)
      (rlm-test-keys "n" "a")
      (should (string-search (rlm-test-there "there/notes.md") (buffer-string)))
      (let ((said (rlm-test-messages
                    (rlm-test-keys "C-c C-c")
                    (rlm-test-wait (lambda ()
                                     (seq-find (lambda (text) (string-prefix-p "rlm: " text)) said))))))
        ;; That server is asked; this one it does not know.
        (should (equal rlm-test-host rlm-server-host))
        (should (seq-find (lambda (text) (string-match-p "\\`rlm: .*Reflect once more" text)) said))))))

(ert-deftest rlm-remote-no-server-there-is-said ()
  (rlm-test-remote
    (setq rlm-remote-server '("rlm-server-that-is-not-there"))
    (let ((buffer (rlm-ask-files "What?" (list (rlm-test-there "tree/")))))
      (should (string-match-p "There is no rlm-server-that-is-not-there on /rlmmock"
                              (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-remote-keys-stay-here ()
  (rlm-test-remote
    (setq rlm-remote-server
          (list rlm-test-python (expand-file-name "odd_server.py" rlm-test-here)
                (rlm-test-file "requests") "keys"))
    (let ((rlm-use-auth-source t)
          (auth-sources (list (rlm-test-file "authinfo" "machine api.odd.example password x\n"))))
      (rlm-test-wait-end (rlm-ask-files "What?" (list (rlm-test-there "tree/"))))
      (should (rlm-test-requests "rlm/ask"))
      (should-not (rlm-test-requests "rlm/keys")))))

(ert-deftest rlm-remote-without-it-files-are-copied-here ()
  (rlm-test-remote
    (setq rlm-remote-server nil)
    (let ((run (rlm-test-wait-end
                (rlm-ask-files "What is the keeper called?"
                               (list (rlm-test-there "tree/harbour.txt"))))))
      (should (string-match-p "Odalys" (rlm-run-answer run)))
      (should-not rlm-server-host))
    (should-error (rlm-ask-files "What?" (list (rlm-test-there "tree/"))) :type 'user-error)))

(ert-deftest rlm-remote-what-can-not-be-asked-about-spoils-no-list ()
  (rlm-test-remote
    (setq rlm-remote-server nil)
    (let ((rlm-collection-current (rlm-collection--make)))
      (rlm-add-files (list (rlm-test-there "tree/") (rlm-test-file "tree/harbour.txt")))
      (rlm-context)
      (with-current-buffer rlm-collection-list--buffer
        (should (string-match-p "harbour.txt +49 bytes" (buffer-string)))
        (should (string-match-p "tree is on another machine"
                                (overlay-get rlm-collection-list--foot 'after-string)))))))

(provide 'rlm-remote-test)
;;; rlm-remote-test.el ends here
