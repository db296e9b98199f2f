;;; rlm-demo.el --- One question from start to end  -*- lexical-binding: t; -*-

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

;; What "make demo" and "make try" run.  The directory and the question
;; come from the environment: RLM_DEMO_DIR, RLM_DEMO_QUESTION, and
;; RLM_SERVER_PYTHON, the Python that has the server, if need be.
;;
;;   "$EMACS" -Q --batch -L elisp -l rlm-demo -f rlm-demo-batch
;;   "$EMACS" -Q -nw -L elisp -l rlm-demo -f rlm-demo-try

;;; Code:

(require 'subr-x)
(require 'rlm)
(require 'rlm-project)
(require 'rlm-client)
(require 'rlm-run)
(require 'rlm-provenance)

(defconst rlm-demo--seconds 3600
  "Seconds after which the demo gives up.")

(defun rlm-demo--directory ()
  "Return the directory to ask about."
  (let ((directory (or (getenv "RLM_DEMO_DIR") default-directory)))
    (unless (file-directory-p directory)
      (user-error "RLM_DEMO_DIR is not a directory: %s" directory))
    (file-name-as-directory (expand-file-name directory))))

(defun rlm-demo--question ()
  "Return the question to ask."
  (let ((question (or (getenv "RLM_DEMO_QUESTION") "")))
    (if (string-blank-p question) "What is this about, and where does it begin?" question)))

(defun rlm-demo--use-python ()
  "Start the server with the Python that the environment names, if any."
  (when-let ((python (getenv "RLM_SERVER_PYTHON")))
    (unless (string-empty-p python)
      (setq rlm-server-command (list python "-m" "rlm_server")))))

(defun rlm-demo--ask ()
  "Ask the question about the directory; return the run's buffer."
  (rlm-demo--use-python)
  (let ((default-directory (rlm-demo--directory)))
    (rlm-ask-project (rlm-demo--question) default-directory)))

;;;; In batch

(defun rlm-demo-batch ()
  "Ask, wait for the end, print what came of it, and end Emacs.
The exit status is zero if the question was answered."
  (let ((rlm-confirm nil)
        (inhibit-message t))
    (condition-case problem
        (let* ((buffer (rlm-demo--ask))
               (run (rlm-demo--wait buffer)))
          (rlm-demo--print run)
          (kill-emacs (if (equal (rlm-run-status run) "done") 0 1)))
      (error
       (rlm-demo--say "%s" (error-message-string problem))
       (kill-emacs 1)))))

(defun rlm-demo--say (format &rest arguments)
  "Print a line: FORMAT with ARGUMENTS."
  (princ (concat (apply #'format format arguments) "\n")))

(defun rlm-demo--wait (buffer)
  "Wait until the run of BUFFER has ended, telling what happens; return the run."
  (let ((end (+ (float-time) rlm-demo--seconds))
        (run (rlm-run-in-buffer buffer))
        (said ""))
    (rlm-demo--say "Question: %s" (rlm-run-question run))
    (while (and (rlm-run-live-p run) (< (float-time) end))
      (accept-process-output nil 0.05)
      (setq run (rlm-run-in-buffer buffer))
      (let ((now (rlm-demo--progress run)))
        (unless (equal now said)
          (setq said now)
          (rlm-demo--say "  %s" now))))
    (when (rlm-run-live-p run)
      (error "No answer after %d seconds" rlm-demo--seconds))
    run))

(defun rlm-demo--progress (run)
  "Return in a few words where RUN is."
  (cond ((zerop (rlm-run-iterations run)) (car (split-string (rlm-run-doing run) ":")))
        ((rlm-run-live-p run) (format "iteration %d" (rlm-run-iterations run)))
        (t "ended")))

(defun rlm-demo--print (run)
  "Print what came of RUN."
  (rlm-demo--say "\nAnswer:\n%s" (or (rlm-run-answer run) "(none)"))
  (when (rlm-run-evidence run)
    (rlm-demo--say "\nEvidence:")
    (pcase-dolist (`(,_file ,line ,path ,quote) (rlm-run-evidence run))
      (rlm-demo--say "  %s:%d: %s" path line quote)))
  (when-let ((drawn (rlm-provenance-sentence (rlm-run-provenance run))))
    (rlm-demo--say "\n%s." drawn))
  (unless (equal (rlm-run-status run) "done")
    (rlm-demo--say "\n%s: %s" (capitalize (rlm-run-status run)) (rlm-run-reason run)))
  (rlm-demo--say "\nFigures: %s" (rlm-demo--figures run))
  (rlm-demo--say "Log: %s" (or (rlm-run-log run) "none"))
  (rlm-demo--say "Transcript: %s" (or (rlm-run-transcript run) "none")))

(defun rlm-demo--figures (run)
  "Return the figures of RUN in a line."
  (format "%s, %s, %s tokens, cost %s, %s, %s"
          (rlm-figure-count (rlm-run-iterations run) "iteration")
          (rlm-figure-count (rlm-run-subcalls run) "sub-call")
          (rlm-figure-number (rlm-run-tokens run))
          (rlm-figure-cost (rlm-run-cost run))
          (rlm-figure-seconds (or (rlm-run-seconds run) 0))
          (or (rlm-run-model run) "no model")))

;;;; On a screen

(defun rlm-demo-try ()
  "Ask the question on the screen, and leave the user with the run's buffer."
  (setq inhibit-startup-screen t)
  ;; What the manual tells the user to do in the init file.
  (let ((key "C-c r"))
    (global-set-key (kbd key) 'rlm-command-map))
  (delete-other-windows)
  (let ((buffer (rlm-demo--ask)))
    (switch-to-buffer buffer)
    (delete-other-windows)
    (message "C-c r has the commands of rlm; here: n p RET a q, and ? for help")))

(provide 'rlm-demo)
;;; rlm-demo.el ends here
