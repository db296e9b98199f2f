;;; rlm-durable-test.el --- Runs that go on, fork and are asked again  -*- lexical-binding: t; -*-

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

;; With a real server and a scripted model.

;;; Code:

(require 'rlm-test-lib)

(defconst rlm-durable-test-rules
  (vector (list :role "root" :match "The context holds" :times 9
                :reply "I ask.\n```repl\nx = llm_query('Sum up: ' + context.documents[0])\nprint(x)\n```\n")
          (list :role "root" :match "Output of cell 1" :times 9
                :reply "Done.\n```repl\nFINAL('so: ' + x)\n```\n")
          (list :role "sub" :match "alpha" :reply "of alpha" :times 9)
          (list :role "sub" :match "beta" :reply "of beta" :times 9)
          (list :role "sub" :match "other" :reply "of other" :times 9))
  "A model whose program makes one sub-call about the first document.")

(defun rlm-durable-test-file (text)
  "Write TEXT into the file that is asked about, and return its name."
  (rlm-test-file "doc.txt" text))

(defun rlm-durable-test-new (function)
  "Call FUNCTION, which begins a run; return the buffer of that run."
  (let ((before (buffer-list)) buffer)
    (funcall function)
    (rlm-test-wait
     (lambda ()
       (setq buffer (seq-find (lambda (each)
                                (and (not (memq each before))
                                     (rlm-run-in-buffer each)
                                     (rlm-run-id (rlm-run-in-buffer each))))
                              (buffer-list))))
     "buffer of the new run")
    buffer))

(ert-deftest rlm-durable-cancelled-run-is-resumed-in-its-buffer ()
  (rlm-test-with-models
      (vector (list :role "root" :times 1
                    :reply "```repl\nx = llm_query('first' + context[:0])\nprint('begun', x)\ny = llm_query('second')\nFINAL(x + y)\n```\n")
              (list :role "sub" :match "first" :reply "one ")
              (list :role "sub" :match "second" :silent t :times 1)
              (list :role "sub" :match "second" :reply "two"))
    (let ((buffer (rlm-ask-files "What?" (list (rlm-durable-test-file "alpha\n")))))
      (rlm-test-wait-text buffer "^begun")
      (with-current-buffer buffer (call-interactively #'rlm-cancel))
      (should (equal "cancelled" (rlm-run-status (rlm-test-wait-end buffer))))
      (with-current-buffer buffer (call-interactively #'rlm-resume-run))
      (rlm-test-wait-text buffer "/Resumed on")
      (let ((run (rlm-test-wait-end buffer)))
        (should (equal '("done" "one two") (list (rlm-run-status run) (rlm-run-answer run))))
        (with-current-buffer buffer
          (should (= 1 (how-many "^begun" (point-min) (point-max))))
          (should (= 1 (how-many "^\\*\\* Iteration 1" (point-min) (point-max))))
          (should (= 0 (how-many "^\\*\\* Cancelled" (point-min) (point-max)))))))))

(defconst rlm-durable-test-two-replies
  (vector (list :role "root" :match "The context holds" :times 1
                :reply "```repl\nx = context[:5]\nprint('begun')\n```\n")
          (list :role "root" :match "Output of cell 1" :times 1
                :reply "```repl\nFINAL(x)\n```\n"))
  "A model that answers in its second reply.")

(ert-deftest rlm-durable-run-that-a-limit-has-ended-goes-on-with-a-larger-one ()
  (rlm-test-with-models
      rlm-durable-test-two-replies
    (let* ((rlm-limits '((iterations . 1)))
           (buffer (rlm-ask-files "What?" (list (rlm-durable-test-file "alpha\n"))))
           asked)
      (should (equal "limit" (rlm-run-status (rlm-test-wait-end buffer))))
      (with-current-buffer buffer
        ;; Given up at either prompt, nothing happens.
        (dolist (quit '(completing-read read-number))
          (cl-letf (((symbol-function 'completing-read)
                     (lambda (prompt _table &rest more)
                       (when (eq quit 'completing-read) (signal 'quit nil))
                       (setq asked prompt)
                       (nth 4 more)))
                    ((symbol-function 'read-number)
                     (lambda (&rest _) (signal 'quit nil)))
                    ((symbol-function 'rlm-rpc-ask)
                     (lambda (&rest _) (ert-fail "Something was asked"))))
            (should (condition-case nil
                        (progn (call-interactively #'rlm-resume-run) nil)
                      (quit t)))))
        (should (equal "Stopped: the limit of 1 iteration is reached. Limit to raise: " asked))
        (cl-letf (((symbol-function 'completing-read) (lambda (&rest more) (nth 6 more)))
                  ((symbol-function 'read-number)
                   (lambda (prompt default)
                     (should (equal "Iterations, now 1: " prompt))
                     default)))
          (call-interactively #'rlm-resume-run)))
      (rlm-test-wait-text buffer "/Resumed on")
      (let ((run (rlm-test-wait-end buffer)))
        (should (equal '("done" "alpha") (list (rlm-run-status run) (rlm-run-answer run))))))))

(ert-deftest rlm-durable-run-goes-on-with-its-files-elsewhere ()
  (rlm-test-with-models
      rlm-durable-test-two-replies
    (let* ((rlm-limits '((iterations . 1)))
           (file (rlm-durable-test-file "alpha\n"))
           (buffer (rlm-ask-files "What?" (list file)))
           (elsewhere (expand-file-name "doc.txt" (make-temp-file "rlm-moved-" t)))
           asked)
      (should (equal "limit" (rlm-run-status (rlm-test-wait-end buffer))))
      (rename-file file elsewhere)
      (cl-letf (((symbol-function 'completing-read) (lambda (&rest more) (nth 6 more)))
                ((symbol-function 'read-number) (lambda (_prompt default) default))
                ((symbol-function 'read-file-name)
                 (lambda (prompt &rest _) (setq asked prompt) elsewhere)))
        (with-current-buffer buffer (call-interactively #'rlm-resume-run)))
      (should (equal (format "%s is not there; where is it now: " file) asked))
      (rlm-test-wait-text buffer "/Resumed on")
      (let ((run (rlm-test-wait-end buffer)))
        (should (equal '("done" "alpha") (list (rlm-run-status run) (rlm-run-answer run))))))))

(ert-deftest rlm-durable-limits-are-known-by-the-words-of-the-server ()
  (pcase-dolist (`(,name . ,words)
                 '((:iterations . "Stopped: the limit of 12 iterations is reached.")
                   (:subcalls . "Stopped: the limit of 50 sub-calls is reached.")
                   (:seconds . "Stopped: the limit of 0.5 s is over.")
                   (:tokens . "Stopped: the limit of 9,000 tokens leaves no room for a call.")
                   (:cost . "Stopped: the cost limit of $1.00 leaves no room for a call.")
                   (nil . "Cancelled.")
                   (nil)))
    (should (eq name (rlm-limits--reached words)))))

(ert-deftest rlm-durable-fork-with-edited-code-and-rerun ()
  (rlm-test-with-models rlm-durable-test-rules
    (let* ((file (rlm-durable-test-file "alpha\n"))
           (buffer (rlm-ask-files "What?" (list file)))
           fork again)
      (should (equal "so: of alpha" (rlm-run-answer (rlm-test-wait-end buffer))))
      ;; The code is edited in a buffer of its own.
      (with-current-buffer buffer
        (goto-char (point-min))
        (re-search-forward "^\\*\\* Iteration 2")
        (should (= 2 (rlm-durable--iteration)))
        (cl-letf (((symbol-function 'completing-read) (lambda (&rest _) "other code")))
          (call-interactively #'rlm-fork-run)))
      (with-current-buffer "*rlm fork: What?*"
        (should (equal "FINAL('so: ' + x)\n" (buffer-string)))
        (erase-buffer)
        (insert "FINAL('forked: ' + x)")
        (setq fork (rlm-durable-test-new (key-binding (kbd "C-c C-c")))))
      (should (equal "forked: of alpha" (rlm-run-answer (rlm-test-wait-end fork))))
      (rlm-test-wait-text fork "^\\*\\* Fork at iteration 2")
      ;; The file changes, and the program is run again.
      (rlm-durable-test-file "beta\n")
      (with-current-buffer buffer
        (setq again (rlm-durable-test-new (lambda () (call-interactively #'rlm-rerun)))))
      (should (equal "so: of beta" (rlm-run-answer (rlm-test-wait-end again))))
      (rlm-test-wait-text again "^\\*\\* Changes of the answer")
      (rlm-test-wait-text again "^-so: of alpha\n\\+so: of beta")
      ;; Nothing can go on that has its answer; everything stays as it is.
      (let ((text (rlm-test-buffer-text buffer)))
        (with-current-buffer buffer (call-interactively #'rlm-resume-run))
        (rlm-rpc-call 'rlm/status nil 10)
        (should (equal text (rlm-test-buffer-text buffer)))))))

(ert-deftest rlm-durable-fork-with-another-model ()
  (rlm-test-with-models (vector '(:reply "Now.\n```repl\ncontext\nFINAL('mine')\n```\n"))
    (let* ((buffer (rlm-ask-files "What?" (list (rlm-test-file "greek.txt" "alpha beta\n"))))
           (keys "a n o t h e r SPC m o d e l RET"))
      (rlm-test-wait-end buffer)
      (switch-to-buffer buffer)
      (goto-char (point-min))
      (re-search-forward "^\\*\\* Iteration 1")
      ;; The same is no other, be it entered or taken.
      (dolist (same '("RET" "s c r i p t e d RET"))
        (should (equal "Nothing would be different"
                       (cadr (should-error (rlm-test-keys "f" keys same) :type 'user-error)))))
      (rlm-test-keys "f" keys "o f f l i n e / e x t r a c t i v e RET")
      (rlm-test-wait-text buffer "^\\*\\* Fork at iteration 1 with another model (done")
      (should (= 2 (length (plist-get (rlm-rpc-call 'rlm/runs nil) :runs)))))))

(ert-deftest rlm-durable-watched-run-is-asked-again ()
  (rlm-test-with-models rlm-durable-test-rules
    (let* ((file (rlm-durable-test-file "alpha\n"))
           (buffer (rlm-ask-files "What?" (list file)))
           (watching nil))
      (rlm-test-wait-end buffer)
      (cl-letf (((symbol-function 'message)
                 (lambda (text &rest values)
                   (when text (setq watching (concat watching (apply #'format text values)))))))
        (with-current-buffer buffer (rlm-watch (rlm-runs-here)))
        (rlm-test-wait (lambda () (and watching (string-search "Watching" watching)))))
      (let ((new (rlm-durable-test-new (lambda () (rlm-durable-test-file "beta\n")))))
        (should (equal "so: of beta" (rlm-run-answer (rlm-test-wait-end new))))
        (rlm-test-wait-text new "^\\+so: of beta"))
      (with-current-buffer buffer (rlm-watch (rlm-runs-here) nil t)))))

(ert-deftest rlm-durable-watching-is-said-to-end-and-its-budget-is-a-number ()
  (rlm-test-with-models rlm-durable-test-rules
    (let ((buffer (rlm-ask-files "What?" (list (rlm-durable-test-file "alpha\n"))))
          (rlm-durable--watched nil))
      (rlm-test-wait-end buffer)
      (switch-to-buffer buffer)
      (dolist (budget '("$5" "0,50" "-1" "much"))
        (should (string-match-p "is no number of dollars"
                                (cadr (should-error
                                       (rlm-test-keys "w" (mapconcat #'string budget " ") "RET")
                                       :type 'user-error)))))
      (should-not rlm-durable--watched)
      (rlm-test-keys "w" ". 5 0 RET")
      (rlm-test-wait (lambda () rlm-durable--watched))
      (should (member "rlm: no longer watching, as the connection has ended: What?"
                      (rlm-test-messages (rlm-rpc-stop)))))))

(ert-deftest rlm-durable-of-ten-thousand-runs-only-the-newest-are-drawn ()
  "So that Emacs has as much to do as with a few hundred.
That it takes less than 300 ms, once the index is there, is checked only if the
environment variable RLM_BENCH is set, since this machine may be busy."
  (rlm-test-with
    (let ((directory (expand-file-name "state/runs/" rlm-test-directory)))
      (make-directory directory t)
      (let ((coding-system-for-write 'utf-8-unix)
            file-name-handler-alist)    ; which would be half of the work
        (dotimes (number 10000)
          (let ((id (format "20260301-%06d-%06x" number number)))
            (write-region
             (format (concat "{\"kind\":\"runStarted\",\"runId\":\"%s\",\"seq\":0,\"time\":%d.0,"
                             "\"node\":\"0\",\"question\":\"Question %d?\",\"rootModel\":\"m\"}\n"
                             "{\"kind\":\"runEnded\",\"runId\":\"%s\",\"seq\":1,\"time\":1.0,"
                             "\"node\":\"0\",\"status\":\"done\",\"usage\":{},\"seconds\":1.0}\n")
                     id (+ 1700000000 number) number id)
             nil (expand-file-name (concat id ".jsonl") directory) nil 'silent)))))
    (let ((total (lambda () (plist-get (rlm-rpc-call 'rlm/runs '(:limit 1) 120) :total))))
      (should (= 10000 (funcall total))))
    (set-buffer (rlm-runs))
    (rlm-test-wait (lambda () tabulated-list-entries))
    (should (= rlm-runs-limit (length tabulated-list-entries)))
    (should (equal "Question 9999?" (plist-get (car rlm-runs--summaries) :question)))
    (let ((best 1.0))
      (dotimes (_ 5)
        (let ((begun (float-time)))
          (setq tabulated-list-entries nil)
          (rlm-table-refresh)
          (while (null tabulated-list-entries) (accept-process-output nil 0.01))
          (setq best (min best (- (float-time) begun)))))
      (message "10,000 runs: the newest are listed in %.0f ms" (* 1000 best))
      (when (getenv "RLM_BENCH")
        (should (< best 0.3))))))

(provide 'rlm-durable-test)
;;; rlm-durable-test.el ends here
