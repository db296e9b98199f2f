;;; rlm-bad-input-test.el --- Tests of what nobody wants to get  -*- lexical-binding: t; -*-

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

;; Answers of odd signs and of one endless line, a project that is gone, a
;; server that is stopped: each with a real server.  Damaged logs, servers
;; of another version and directories that can't be written are tried in
;; rlm-test.el and rlm-e2e-test.el.

;;; Code:

(require 'rlm-test-lib)

(defun rlm-bad-input--tree ()
  "Make a small tree in the test's directory and return its name."
  (rlm-test-file "tree/one.txt" "The keeper is called Odalys.\n")
  (rlm-test-file "tree/"))

(defun rlm-bad-input--answer (code)
  "Return rules for a root model that replies with CODE."
  (vector (list :role "root" :reply (concat "```repl\n" code "\n```\n"))))

(defun rlm-bad-input--longest-line ()
  "Return the length of the longest line of the current buffer."
  (save-excursion
    (goto-char (point-min))
    (let ((longest 0))
      (while (not (eobp))
        (setq longest (max longest (- (line-end-position) (point))))
        (forward-line))
      longest)))

(ert-deftest rlm-bad-input-signs-that-are-none ()
  (rlm-test-with-models
      (rlm-bad-input--answer
       "print('out\\0put \\udc80 \\x1b[31m')
FINAL('nul:\\0: lone:\\ud800: byte:\\udc80: bell:\\a: feed:\\x0c: end')")
    (let* ((buffer (rlm-ask-files "What?" (list (rlm-bad-input--tree))))
           (run (rlm-test-wait-end buffer)))
      (should (equal "done" (rlm-run-status run)))
      (should (string-match-p "nul:.: lone:.: byte:.: bell:.: feed:" (rlm-run-answer run)))
      (let ((text (rlm-test-buffer-text buffer)))
        (should (string-match-p "^\\*\\* Answer\n\nnul:.: lone:" text))
        (should-not (string-match-p "[\0\f]" text)))
      (with-current-buffer (find-file-noselect (rlm-run-transcript run))
        (should (derived-mode-p 'org-mode))
        (should (eq 'utf-8-unix (coding-system-change-eol-conversion
                                 buffer-file-coding-system 'unix)))
        (should (string-match-p "^\\*\\* Answer" (buffer-string)))))))

(ert-deftest rlm-bad-input-one-endless-line ()
  (rlm-test-with-models
      (rlm-bad-input--answer "print('y' * 5_000_000)\nFINAL('x' * 5_000_000)")
    (let* ((buffer (rlm-ask-files "What?" (list (rlm-bad-input--tree))))
           (run (rlm-test-wait-end buffer)))
      (should (equal "done" (rlm-run-status run)))
      ;; The server cuts an answer, and says so.
      (should (string-match-p "\\`x\\{60000\\}" (rlm-run-answer run)))
      (should (> (length (rlm-run-answer run)) 2000000))
      (with-current-buffer buffer
        (should (<= (rlm-bad-input--longest-line) 10000))
        (goto-char (point-min))
        (re-search-forward "^\\*\\* Answer")
        ;; It is broken, but nothing of it is lost.
        (let ((shown 0) (end (or (save-excursion (re-search-forward "^\\*+ " nil t))
                                 (point-max))))
          (while (re-search-forward "x+" end t)
            (setq shown (+ shown (- (match-end 0) (match-beginning 0)))))
          (should (>= shown 2000000))))
      (should (file-exists-p (rlm-run-transcript run))))))

(ert-deftest rlm-bad-input-a-project-that-is-gone ()
  (rlm-test-with
    (let* ((tree (rlm-bad-input--tree))
           (buffer (rlm-ask-files "What is the keeper called?" (list tree)))
           (run (rlm-test-wait-end buffer)))
      (should (rlm-run-evidence run))
      (delete-directory tree t)
      (switch-to-buffer buffer)
      (goto-char (point-min))
      (should (string-match-p "is gone" (cadr (should-error (rlm-browse-next-evidence 1)
                                                            :type 'user-error))))
      (let ((text (rlm-test-buffer-text buffer)))
        (rlm-redraw)
        (rlm-test-wait (lambda () (not (eq run (rlm-run-in-buffer buffer)))))
        (rlm-test-wait-end buffer)
        (should (equal text (rlm-test-buffer-text buffer)))))))

(ert-deftest rlm-bad-input-a-server-that-is-stopped ()
  "It is noticed, told, and made good by going on or by another server."
  ;; Two beats without an answer are within the ten seconds that are promised.
  (should (<= (* 2 (default-value 'rlm-heartbeat)) 10))
  (rlm-test-with-models (rlm-bad-input--answer "print('begun')\nimport time\ntime.sleep(9999)")
    (let* ((rlm-heartbeat 0.3)
           (buffer (rlm-ask-files "What?" (list (rlm-bad-input--tree))))
           (says (lambda (regexp)
                   (rlm-test-wait (lambda ()
                                    (with-current-buffer buffer
                                      (string-match-p regexp (rlm-header))))
                                  regexp)))
           ;; It says that the server answers again, or what the run does meanwhile.
           (answers (lambda ()
                      (rlm-test-wait (lambda ()
                                       (with-current-buffer buffer
                                         (not (string-search "no answer" (rlm-header)))))
                                     "answers again"))))
      (rlm-test-wait-text buffer "^begun")
      (let ((process (rlm-rpc-process)))
        (unwind-protect
            (progn
              (signal-process process 'SIGSTOP)
              (funcall says "no answer from the server for .* s (M-x rlm-restart-server)")
              (signal-process process 'SIGCONT)
              (funcall answers)
              ;; Emacs sends nothing to a process that it knows to be stopped.
              (rlm-heartbeat-watch nil)
              (signal-process process 'SIGSTOP)
              (rlm-test-wait (lambda () (eq (process-status process) 'stop)) "stopped")
              (rlm-heartbeat-watch t)
              (funcall says "no answer from the server")
              ;; What is asked of it meanwhile says so, with the cure.
              (dolist (try (list (lambda () (rlm-rpc-call 'rlm/status nil))
                                 (lambda () (error "%s" (car (last (rlm-test-messages
                                                                     (rlm-cancel (rlm-run-in-buffer
                                                                                  buffer)))))))))
                (let ((problem (should-error (funcall try))))
                  (should (string-match-p "suspended\\..*M-x rlm-restart-server" (cadr problem)))))
              (signal-process process 'SIGCONT)
              (funcall answers)
              (signal-process process 'SIGSTOP)
              (funcall says "no answer from the server")
              (rlm-restart-server)
              (rlm-test-wait-end buffer)
              (should (equal "interrupted" (rlm-run-status (rlm-run-in-buffer buffer))))
              (rlm-test-wait (lambda () (rlm-rpc-info)) "another server")
              (should-not (eq process (rlm-rpc-process))))
          (when (process-id process)
            (ignore-errors (signal-process (process-id process) 'SIGCONT))))))))

(provide 'rlm-bad-input-test)
;;; rlm-bad-input-test.el ends here
