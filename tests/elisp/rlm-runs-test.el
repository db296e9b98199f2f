;;; rlm-runs-test.el --- Tests of the list of runs  -*- lexical-binding: t; -*-

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

;; The list of runs with real runs in it, and its keys as a person presses
;; them.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-runs)
(require 'rlm-runs-compare)

(defun rlm-test-two-runs ()
  "Let two questions be answered, and return their ids, the first one first."
  (rlm-test-file "harbour.txt" "The harbour is old.\nThe keeper is called Odalys.\n")
  (mapcar (lambda (question)
            (rlm-run-id (rlm-test-wait-end
                         (rlm-ask-files question (list (rlm-test-file "harbour.txt"))))))
          '("What is the keeper called?" "How old is\n the harbour?")))

(defmacro rlm-test-in-runs (&rest body)
  "Evaluate BODY in the list of runs, as soon as it is there, in a window."
  (declare (indent 0) (debug t))
  `(save-window-excursion
     (rlm-runs)
     (with-current-buffer rlm-runs--buffer
       (rlm-test-wait (lambda () (and tabulated-list-entries (not rlm-table--asking))))
       ,@body)))

(defun rlm-test-answered ()
  "Wait until the list has the answer to what it has asked."
  (rlm-test-wait (lambda () (not rlm-table--asking)) "answer for the list"))

(defun rlm-test-go-to-row (text)
  "Go to the row that holds TEXT."
  (goto-char (point-min))
  (search-forward text)
  (beginning-of-line))

(ert-deftest rlm-runs-test-list-and-filters ()
  (rlm-test-with
    (rlm-test-two-runs)
    (rlm-test-in-runs
      (should (equal '("How old is the harbour?" "What is the keeper called?")
                     (mapcar (lambda (entry) (aref (cadr entry) 0)) tabulated-list-entries)))
      (should (string-match-p "^  How old .* done +[0-9-]+ [0-9:]+ +offline/extr.* +0 +[0-9.]+ s$"
                              (buffer-string)))
      (should (equal " 2" mode-line-process))
      (rlm-test-keys "/ k e e p e r RET")
      (rlm-test-answered)
      (should (= 1 (length tabulated-list-entries)))
      (should (equal " 1 (keeper)" mode-line-process))
      (rlm-test-keys "s f a i l e d RET")
      (rlm-test-answered)
      (should-not tabulated-list-entries)
      (rlm-test-keys "s RET")
      (rlm-test-answered)
      (rlm-test-keys "/ C-a C-k RET")
      (rlm-test-answered)
      (should (= 2 (length tabulated-list-entries)))
      (rlm-test-keys "P n o SPC s u c h RET")
      (rlm-test-answered)
      (should-not tabulated-list-entries)
      (rlm-test-keys "P RET")
      (rlm-test-answered)
      (should (= 2 (length tabulated-list-entries)))
      ;; What was changed in the filter is all: quitting changes nothing.
      (condition-case nil (rlm-test-keys "/ x C-g") (quit nil))
      (should-not rlm-runs--filter))))

(ert-deftest rlm-runs-test-a-limit-and-more ()
  (rlm-test-with
    (rlm-test-two-runs)
    (let ((rlm-runs-limit 1))
      (rlm-test-in-runs
        (should (= 1 (length tabulated-list-entries)))
        (should (equal " 1 of 2" mode-line-process))
        (rlm-test-keys "+")
        (rlm-test-answered)
        (should (= 2 (length tabulated-list-entries)))))))

(ert-deftest rlm-runs-test-sorting-looks-at-what-is-not-shown-too ()
  (rlm-test-with
    (rlm-test-two-runs)
    (let ((rlm-runs-limit 1)
          (shown (lambda () (mapcar (lambda (entry) (substring (aref (cadr entry) 0) 0 4))
                                    tabulated-list-entries))))
      (rlm-test-in-runs
        (should (equal '("How ") (funcall shown)))
        (rlm-test-keys "C-u 0 S")
        (rlm-test-answered)
        (should (equal '("How ") (funcall shown)))
        ;; Where the marks are, that is the first column too.
        (beginning-of-line)
        (rlm-test-keys "S")
        (rlm-test-answered)
        (should (equal '("What") (funcall shown)))
        (rlm-test-keys "M-- 1 S")
        (rlm-test-answered)
        (should (equal '("How ") (funcall shown)))
        ;; What is wanted while an answer is awaited is asked for after it.
        (rlm-table-refresh)
        (rlm-runs-filter "keeper")
        (rlm-test-wait (lambda () (equal '("What") (funcall shown))))
        (rlm-test-answered)))))

(ert-deftest rlm-runs-test-open-and-preview ()
  (rlm-test-with
    (rlm-test-two-runs)
    (mapc #'kill-buffer (seq-filter #'rlm-run-in-buffer (buffer-list)))
    (rlm-test-in-runs
      (rlm-test-go-to-row "What is the keeper")
      (rlm-test-keys "SPC")
      (should (eq (current-buffer) (window-buffer)))
      (let ((buffer (car (seq-filter #'rlm-run-in-buffer (buffer-list)))))
        (rlm-test-wait-text buffer "Odalys")
        (rlm-test-keys "RET")
        (should (eq buffer (window-buffer)))))))

(ert-deftest rlm-runs-test-compare-two ()
  (rlm-test-with
    (rlm-test-two-runs)
    (rlm-test-in-runs
      (should-error (rlm-test-keys "=") :type 'user-error)
      (rlm-test-go-to-row "What is the keeper")
      (rlm-test-keys "m")
      ;; Marks stay when the list is read anew.
      (rlm-table-refresh)
      (rlm-test-answered)
      (rlm-test-go-to-row "How old")
      (rlm-test-keys "=")
      (should (equal '("*rlm run A*" "*rlm run B*")
                     (mapcar (lambda (window) (buffer-name (window-buffer window)))
                             (window-list nil 'no-minibuffer (frame-first-window)))))
      (let ((one (rlm-test-buffer-text "*rlm run A*"))
            (two (rlm-test-buffer-text "*rlm run B*")))
        (dolist (regexp '("^Question: +What is the keeper called\\?$" "^Status: +done$"
                          "^Cost: +0$" "Odalys" "^- harbour\\.txt:2 The keeper"))
          (should (string-match-p regexp one)))
        (should (string-match-p "^Question: +How old" two))))))

(ert-deftest rlm-runs-test-export ()
  (rlm-test-with
    (let ((id (car (rlm-test-two-runs))))
      (mapc #'kill-buffer (seq-filter #'rlm-run-in-buffer (buffer-list)))
      (rlm-test-in-runs
        (rlm-test-go-to-row "What is the keeper")
        (pcase-dolist (`(,format ,regexp)
                       '(("html" "\\`<!doctype html>\\(?:.\\|\n\\)*Odalys")
                         ("markdown" "Odalys")
                         ("python" "^# \\|^print\\|^[a-z_]+ = ")
                         ("org" "^\\* What is the keeper called\\?\n\\(?:.\\|\n\\)*Odalys")))
          (let ((file (rlm-test-file (concat "out." format)))
                (case-fold-search t))
            (rlm-export-run (rlm-runs--at-point) format file)
            (rlm-test-wait (lambda () (and (file-exists-p file)
                                           (string-match-p regexp (rlm-test-text file)))))))
        ;; What was drawn for a file alone is gone.
        (should-not (seq-filter #'rlm-run-in-buffer (buffer-list)))
        ;; By keys, the file is named after the question, in this directory.
        (setq default-directory rlm-test-directory)
        (rlm-test-keys "e m a r k d o w n RET RET")
        (let ((file (rlm-test-file (concat id "-what-is-the-keeper-called.md"))))
          (rlm-test-wait (lambda () (file-exists-p file)))
          ;; It is replaced only if one agrees.
          (should-error (rlm-test-keys "e m a r k d o w n RET RET n") :type 'user-error))))))

(ert-deftest rlm-runs-test-an-export-that-is-quit-leaves-no-buffer ()
  (rlm-test-with
    (let ((id (car (rlm-test-two-runs)))
          (file (rlm-test-file "out.org")))
      (mapc #'kill-buffer (seq-filter #'rlm-run-in-buffer (buffer-list)))
      (rlm-test-in-runs
        (rlm-test-go-to-row "What is the keeper")
        ;; Before its first event is there, and while it is drawn.
        (dolist (function '(accept-process-output rlm-trajectory-flush rlm-client-redraw))
          (cl-letf (((symbol-function function) (lambda (&rest _) (signal 'quit nil)))
                    ;; Nobody is asked whether to cancel what has ended long ago.
                    ((symbol-function 'yes-or-no-p) (lambda (&rest _) (ert-fail "asked")))
                    (noninteractive nil))
            (should (eq 'quit (condition-case nil
                                  (rlm-export-run (rlm-runs--at-point) "org" file)
                                (quit 'quit)))))
          (should-not (seq-filter #'rlm-run-in-buffer (buffer-list))))
        (should-not (file-exists-p file))
        (rlm-export-run (rlm-runs--at-point) "org" file)
        (should (string-match-p id (rlm-test-text file)))))))

(ert-deftest rlm-runs-test-delete-the-marked ()
  (rlm-test-with
    (let* ((ids (rlm-test-two-runs))
           (logs (mapcar (lambda (id) (rlm-test-file (format "state/runs/%s.jsonl" id))) ids)))
      (rlm-test-in-runs
        (rlm-test-go-to-row "What is the keeper")
        (cl-letf (((symbol-function 'yes-or-no-p) #'ignore))
          (should-error (rlm-test-keys "D") :type 'user-error))
        (should (seq-every-p #'file-exists-p logs))
        (rlm-test-go-to-row "How old")
        (rlm-test-keys "m")
        (rlm-test-go-to-row "What is the keeper")
        (cl-letf (((symbol-function 'yes-or-no-p) (lambda (&rest _) t)))
          (rlm-test-keys "D"))
        (rlm-test-wait (lambda () (= 1 (length tabulated-list-entries))))
        (should (equal '(t nil) (mapcar #'file-exists-p logs)))
        (cl-letf (((symbol-function 'yes-or-no-p) (lambda (&rest _) t)))
          (rlm-test-go-to-row "What is the keeper")
          (rlm-test-keys "D"))
        (rlm-test-wait (lambda () (null tabulated-list-entries)))))))

(ert-deftest rlm-runs-test-delete-a-run-with-its-fork ()
  (rlm-test-with
    (let ((run (car (rlm-test-two-runs))))
      (rlm-fork-run (list :runId run :question "What?") 1 :code "context\nFINAL('forked')")
      (rlm-test-wait-text (rlm-client-buffer run) "^forked$")
      (rlm-test-in-runs
        (should (= 3 (length rlm-runs--summaries)))
        ;; The beginning of the fork is named before it.
        (rlm-delete-runs (reverse rlm-runs--summaries))
        (rlm-test-wait (lambda () (null tabulated-list-entries)) "an empty list"))
      (should-not (directory-files (rlm-test-file "state/runs") nil "\\.jsonl\\'")))))

(ert-deftest rlm-runs-test-resume-a-run-whose-server-died ()
  (rlm-test-with-models
      (vector '(:reply "Now.\n\n```repl\nprint('one')\n```" :times 1)
              '(:reply "Now.\n\n```repl\nimport time; time.sleep(1.5)\nFINAL('all is well')\n```"))
    (rlm-test-file "harbour.txt" "The harbour is old.\n")
    (let ((buffer (rlm-ask-files "Well?" (list (rlm-test-file "harbour.txt")))))
      (rlm-test-wait-text buffer "^import time")
      (signal-process (rlm-rpc-process) 9)
      (rlm-test-wait-end buffer)
      (should (equal "interrupted" (rlm-run-status (rlm-run-in-buffer buffer))))
      (rlm-test-in-runs
        (should (string-match-p "Well\\? +interrupted" (buffer-string)))
        (rlm-test-keys "r"))
      (rlm-test-wait (lambda () (equal "done" (rlm-run-status (rlm-run-in-buffer buffer))))
                     "end of the resumed run")
      (should (equal "all is well" (rlm-run-answer (rlm-run-in-buffer buffer)))))))

;; To kill a copy would cancel the run.
(ert-deftest rlm-runs-test-a-run-is-not-cloned ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "Well?")))
      (switch-to-buffer buffer)
      (should (string-match-p "Cannot clone a buffer in rlm mode"
                              (cadr (should-error (rlm-test-keys "M-x clone-buffer RET")))))
      (should (equal (list buffer) (seq-filter #'rlm-run-in-buffer (buffer-list)))))))

;; Such as `org-tree-to-indirect-buffer' makes.
(ert-deftest rlm-runs-test-an-indirect-buffer-is-no-second-run ()
  (rlm-test-with-models (vector '(:role "root" :silent t))
    (let ((buffer (rlm-ask-files "Well?" (list (rlm-test-file "harbour.txt" "It is old.\n"))))
          (cancelled nil)
          clone)
      (rlm-test-wait-text buffer "^\\*\\* Iteration 1")
      (switch-to-buffer buffer)
      (goto-char (point-min))
      (search-forward "Iteration 1")
      (rlm-test-keys "C-c C-x b")
      (setq clone (seq-find (lambda (each) (eq buffer (buffer-base-buffer each))) (buffer-list)))
      (should (equal (list buffer) (rlm-run-live-buffers)))
      (should (string-match-p "rlm:1" rlm-header-mode-line))
      ;; Drawn anew from there, it is the whole that is.
      (switch-to-buffer clone)
      (rlm-test-keys "g")
      (rlm-test-wait (lambda () (not (eq (rlm-run-in-buffer buffer) (rlm-run-in-buffer clone)))))
      (rlm-test-wait-text buffer "^\\*\\* Iteration 1")
      (should (eq buffer (rlm-client-buffer (rlm-run-id (rlm-run-in-buffer buffer)))))
      ;; To kill it ends nothing.
      (let ((rlm-trajectory-cancel-function (lambda (run) (setq cancelled run))))
        (should (kill-buffer clone)))
      (should-not cancelled)
      (rlm-cancel (rlm-run-in-buffer buffer))
      (should (equal "cancelled" (rlm-run-status (rlm-test-wait-end buffer)))))))

;; The server has not read yet what is spooled.
(ert-deftest rlm-runs-test-an-indirect-buffer-takes-no-text-away ()
  (rlm-test-with
    (let* ((file (rlm-test-file "harbour.txt" "It is old.\n"))
           (buffer (with-current-buffer (find-file-noselect file)
                     (insert "The keeper is called Odalys.\n")
                     (prog1 (rlm-ask-files "What is the keeper called?" (list file))
                       (set-buffer-modified-p nil))))
           (spool (rlm-context-spool (buffer-local-value 'rlm-client-context buffer))))
      (with-current-buffer buffer
        (kill-buffer (make-indirect-buffer buffer "clone" t)))
      (should (file-exists-p spool))
      (should (string-search "Odalys" (rlm-run-answer (rlm-test-wait-end buffer))))
      (should-not (file-exists-p spool)))))

;; Whoever cancels then is told what has become of the run, or why nobody can tell.
(ert-deftest rlm-runs-test-cancel-a-run-whose-server-died ()
  (rlm-test-with-models (vector '(:role "root" :silent t))
    (rlm-test-file "harbour.txt" "The harbour is old.\n")
    (let* ((ask (lambda ()
                  (let ((buffer (rlm-ask-files "Well?" (list (rlm-test-file "harbour.txt")))))
                    (rlm-test-wait-text buffer "^\\*\\* Iteration 1")
                    buffer)))
           (press (lambda (buffer regexp)
                    (rlm-test-messages
                      (switch-to-buffer buffer)
                      (goto-char (point-min))
                      (rlm-test-keys "k")
                      (rlm-test-wait (lambda ()
                                       (seq-find (lambda (text) (string-match-p regexp text)) said))
                                     regexp))))
           (buffer (funcall ask))
           (list (rlm-runs)))
      (rlm-test-wait (lambda () (string-match-p "running" (rlm-test-buffer-text list))))
      ;; The list does not know of it yet.
      (signal-process (rlm-rpc-process) 9)
      (rlm-test-wait-end buffer)
      (funcall press list "\\`The run has ended already\\'")
      (rlm-test-wait-text list "interrupted")
      (with-current-buffer buffer
        (should (equal '(user-error "The run has ended already")
                       (should-error (rlm-test-keys "k")))))
      ;; Nor does anybody, at that very moment.
      (setq buffer (funcall ask))
      (signal-process (rlm-rpc-process) 9)
      (funcall press buffer "killed by signal 9\\|has ended already")
      (should (equal "interrupted" (rlm-run-status (rlm-test-wait-end buffer))))
      (setq buffer (funcall ask))
      (signal-process (rlm-rpc-process) 9)
      (should (kill-buffer buffer))
      (rlm-test-wait (lambda () (null (rlm-run-live-buffers))))
      ;; And none can be started.
      (rlm-rpc-stop)
      (rlm-server-forgive)
      (setq rlm-server-command '("/no/such/server"))
      (funcall press list "\\`rlm: /no/such/server can't be executed: correct"))))

(ert-deftest rlm-runs-test-a-damaged-log-still-has-its-answer ()
  (rlm-test-with
    (let ((log (rlm-test-file "log" (concat
                                     "{\"kind\":\"answer\",\"text\":\"old\",\"evidence\":[],\"more\":false}\n"
                                     "{\"kind\":\"output\",\"text\":\"\\\"kind\\\":\\\"answer\\\"\"}\n"
                                     "{\"kind\":\"answer\", broken\n"
                                     "{\"kind\":\"answer\",\"text\":\"new \",\"evidence\":[],\"more\":true}\n"
                                     "{\"kind\":\"answer\",\"text\":\"one\",\"evidence\":"
                                     "[{\"path\":\"a.txt\",\"line\":3,\"quote\":\"q\"}],\"more\":false}\n"
                                     "{\"kind\":\"runEn"))))
      (should (equal "new one\n\n- a.txt:3 q" (rlm-runs-compare--answer log))))))

(provide 'rlm-runs-test)
;;; rlm-runs-test.el ends here
