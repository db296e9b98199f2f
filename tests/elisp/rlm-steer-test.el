;;; rlm-steer-test.el --- Tests of steering, with real servers  -*- lexical-binding: t; -*-

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

;; A real server, and a model that follows a script: further questions,
;; approval, notes, pauses, variables and code of one's own.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-steer)
(require 'rlm-variables)

(defun rlm-steer-test-cell (code)
  "Return a reply that holds CODE."
  (concat "I run this.\n\n```repl\n" code "\n```\n"))

(defun rlm-steer-test-rules (&rest codes)
  "Return rules by which the root model answers with CODES, in their order."
  (vconcat (mapcar (lambda (code)
                     (list :role "root" :times 1 :reply (rlm-steer-test-cell code)))
                   codes)))

(defun rlm-steer-test-ask ()
  "Ask something about a small file; return the run's buffer."
  (let ((rlm-use-cache nil))
    (rlm-ask-files "What is in it?" (list (rlm-test-file "greek.txt" "alpha\nbeta\n")))))

(defmacro rlm-steer-test-pop (&rest body)
  "Evaluate BODY, and make the buffer that it pops up current."
  (declare (indent 0) (debug t))
  `(set-buffer (progn ,@body (window-buffer))))

(defun rlm-steer-test-waiting (buffer node)
  "Wait until code of NODE waits in BUFFER; return its run."
  (let ((run (rlm-run-in-buffer buffer)))
    (rlm-test-wait (lambda () (rlm-run-waiting-cell run node 1)) (concat "code of " node))
    run))

(ert-deftest rlm-steer-further-question ()
  (rlm-test-with-models (rlm-steer-test-rules "found = context.split()\nFINAL('two')"
                                              "FINAL(found[1])")
    (let* ((ended nil)
           (rlm-after-run-functions (list (lambda (run) (push (rlm-run-answer run) ended))))
           (buffer (rlm-steer-test-ask))
           (run (rlm-test-wait-end buffer)))
      (should (equal "two" (rlm-run-answer run)))
      (with-current-buffer buffer
        (should-error (call-interactively #'rlm-note) :type 'user-error)
        (should-error (call-interactively #'rlm-approve) :type 'user-error)
        (rlm-follow-up run "Which is the\nsecond?"))
      (rlm-test-wait (lambda () (equal "beta" (rlm-run-answer run))))
      (rlm-test-wait-end buffer)
      (should (equal '("beta" "two") ended))
      (let ((text (rlm-test-text (rlm-run-transcript run))))
        (should (string-match-p "^\\* What is in it\\?\n" text))
        (should (string-match-p "^\\* Which is the second\\?\n" text))
        (should (string-match-p "^\\*\\* Iteration 2" text)))
      ;; Drawn again from its log, it is the same.
      (let ((drawn (rlm-test-buffer-text buffer)))
        (rlm-client-redraw buffer)
        (rlm-test-wait (lambda () (equal drawn (rlm-test-buffer-text buffer))) "redrawn")))))

(ert-deftest rlm-steer-what-no-longer-rests-is-told-with-the-cure ()
  (rlm-test-with-models (rlm-steer-test-rules "context\nFINAL('one')")
    (with-temp-buffer
      (insert-file-contents (rlm-test-file "config.toml"))
      (goto-char (point-min))
      (search-forward "[models")
      (beginning-of-line)
      (insert "[sandbox]\nresting = 0\n")
      (write-region nil nil (rlm-test-file "config.toml") nil 'silent))
    (let* ((buffer (rlm-steer-test-ask))
           (run (rlm-test-wait-end buffer))
           (said nil))
      (cl-letf (((symbol-function 'message)
                 (lambda (&rest words) (push (apply #'format-message words) said) nil)))
        (rlm-follow-up run "More?")
        (rlm-test-wait (lambda () (seq-some (lambda (text) (string-search "resting" text)) said)))))))

(ert-deftest rlm-steer-approval-edit-and-rejection ()
  (rlm-test-with-models (rlm-steer-test-rules "context\nx = 1" "import os" "FINAL(x)" "FINAL(x)")
    (let* ((rlm-approve-code t)
           (buffer (rlm-steer-test-ask))
           (run (rlm-steer-test-waiting buffer "0.1")))
      (rlm-steer-test-pop
        (with-current-buffer buffer
          (call-interactively #'rlm-edit-code)))
      (should (derived-mode-p 'python-mode))
      (should (equal "context\nx = 1\n" (buffer-string)))
      (goto-char (point-max))
      (insert "x = 7\n")
      (rlm-code-run)
      (should (equal buffer (window-buffer)))
      (rlm-steer-test-waiting buffer "0.2")
      (with-current-buffer buffer
        (rlm-reject run (rlm-steer-waiting run) "no files"))
      (rlm-steer-test-waiting buffer "0.3")
      (with-current-buffer buffer
        (rlm-approve run (rlm-steer-waiting run)))
      (rlm-test-wait-end buffer)
      (should (equal "7" (rlm-run-answer run)))
      (let ((text (rlm-test-buffer-text buffer)))
        (should (string-match-p "\\*Edited\\*; this runs:\n\n#\\+begin_src python\ncontext\nx = 1\nx = 7"
                                text))
        (should (string-match-p "\\*Rejected\\*: no files" text))))))

(ert-deftest rlm-steer-quit-while-editing-decides-nothing ()
  (rlm-test-with-models (rlm-steer-test-rules "context\nFINAL('done')")
    (let* ((rlm-approve-code t)
           (buffer (rlm-steer-test-ask))
           (run (rlm-steer-test-waiting buffer "0.1")))
      (rlm-steer-test-pop
        (with-current-buffer buffer
          (rlm-edit-code run (rlm-steer-waiting run))))
      (let ((editing (current-buffer)))
        (cl-letf (((symbol-function 'read-string) (lambda (&rest _) (signal 'quit nil))))
          (should (eq 'quit (condition-case nil (rlm-code-drop) (quit 'quit)))))
        (should (buffer-live-p editing))
        (should (rlm-run-waiting run))
        (kill-buffer editing))
      (with-current-buffer buffer
        (rlm-approve run (rlm-steer-waiting run) t))
      (should (equal "done" (rlm-run-answer (rlm-test-wait-end buffer)))))))

(ert-deftest rlm-steer-the-buffer-for-code-is-left-everywhere-or-stays ()
  (save-window-excursion
    (rlm-code-open "*rlm code*" "" "runs it" "drops it" #'ignore #'ignore)
    (let ((buffer (window-buffer)))
      (split-window)
      (with-current-buffer buffer
        (should-error (rlm-code-run) :type 'user-error)
        (should-error (rlm-code-fork) :type 'user-error)
        (insert "x = 1")
        (setq rlm-code--run (lambda (_) (error "No server")))
        (should-error (rlm-code-run)))
      (should (buffer-live-p buffer))
      (with-current-buffer buffer
        (setq rlm-code--run #'ignore)
        (rlm-code-run))
      (should-not (buffer-live-p buffer)))))

(ert-deftest rlm-steer-code-that-can-not-be-run-is-not-lost ()
  (dolist (how (list (lambda (run) (rlm-exec-code run "mine = 1"))
                     (lambda (run) (rlm-fork-run (list :runId (rlm-run-id run) :question "odd?")
                                                 1 :code "mine = 1"))))
    (rlm-test-with-odd-server '("deaf")     ; which does not know of that
      (let ((run (with-temp-buffer
                   (insert "text")
                   (rlm-run-in-buffer (rlm-ask-buffer "odd?"))))
            (kill-ring nil))
        (rlm-test-wait (lambda () (rlm-run-id run)))
        (let ((said (rlm-test-messages
                      (funcall how run)
                      (rlm-test-wait (lambda () kill-ring)))))
          (should (equal "mine = 1" (car kill-ring)))
          (should (seq-find (lambda (text) (string-match-p "C-y inserts your code" text))
                            said)))))))

(ert-deftest rlm-steer-note-pause-variables-and-code-of-ones-own ()
  (rlm-test-with-models (rlm-steer-test-rules "context\nwords = ['alpha'] * 500" "FINAL(words)")
    (let* ((rlm-approve-code t)
           (buffer (rlm-steer-test-ask))
           (run (rlm-steer-test-waiting buffer "0.1")))
      (with-current-buffer buffer
        (rlm-pause run)
        (rlm-test-wait (lambda () (rlm-run-paused run)))
        (rlm-note run "Be brief.")
        (rlm-approve run (rlm-steer-waiting run))
        (rlm-test-wait-text buffer "Your note\\*: Be brief")
        (rlm-pause run)
        (rlm-test-wait (lambda () (not (rlm-run-paused run)))))
      (rlm-steer-test-waiting buffer "0.2")
      (rlm-variables run)
      (rlm-steer-test-pop
        (with-current-buffer "*rlm variables*"
          (rlm-test-wait-text (current-buffer) "words .*list .*500")
          (goto-char (point-min))
          (re-search-forward "^ *words")
          (rlm-variables-inspect)))
      (rlm-test-wait-text (current-buffer) "\\['alpha',")
      (should (string-match-p "list, 4,998 characters\\|list, [0-9,]+ characters"
                              header-line-format))
      (rlm-steer-test-pop
        (with-current-buffer buffer
          (rlm-exec run)))
      (insert "words = 'mine'\nprint('set by me')")
      (rlm-code-run)
      (rlm-test-wait-text buffer "^set by me")
      (with-current-buffer buffer
        (rlm-approve run (rlm-steer-waiting run) t))
      (should (equal "mine" (rlm-run-answer (rlm-test-wait-end buffer))))
      (should (string-match-p "^\\*\\* Your code 1" (rlm-test-buffer-text buffer))))))

(ert-deftest rlm-steer-large-values-come-page-by-page ()
  (rlm-test-with-models (rlm-steer-test-rules "context\nbig = 'x' * 40000 + 'end'\nFINAL('y')")
    (let* ((buffer (rlm-steer-test-ask))
           (run (rlm-test-wait-end buffer)))
      (rlm-variables run)
      (rlm-steer-test-pop
        (with-current-buffer "*rlm variables*"
          (rlm-test-wait-text (current-buffer) "^ *big")
          (goto-char (point-min))
          (re-search-forward "^ *big")
          (rlm-variables-inspect)))
      (dolist (size '(16384 32768 40003))
        (rlm-test-wait (lambda () (= (buffer-size) size)) size)
        (rlm-variable-more))
      (rlm-test-wait (lambda () (not rlm-variable--asking)))
      (should (string-suffix-p "xend" (buffer-string)))
      (should (equal " str, 40,003 characters" header-line-format)))))

(provide 'rlm-steer-test)
;;; rlm-steer-test.el ends here
