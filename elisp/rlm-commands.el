;;; rlm-commands.el --- Commands on a run and on the server  -*- lexical-binding: t; -*-

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

;; What is done with a run, wherever one is: cancel it, ask again, draw it anew
;; or open it; and how the server is stopped and started again.

;;; Code:

(require 'rlm)
(require 'rlm-ask)
(require 'rlm-client)
(require 'rlm-question)
(require 'rlm-rpc)
(require 'rlm-run)

;;;; Runs

(defun rlm-live-run ()
  "Return the run that is meant: of this buffer, else the live one, else ask."
  (or (rlm-run-in-buffer)
      (let ((buffers (rlm-run-live-buffers)))
        (cond ((null buffers) (user-error "No run is going on"))
              ((cdr buffers)
               (rlm-run-in-buffer
                (or (get-buffer (rlm-read-one "Which run: " (mapcar #'buffer-name buffers)))
                    (user-error "This run has gone meanwhile"))))
              (t (rlm-run-in-buffer (car buffers)))))))

;;;###autoload
(defun rlm-cancel (run &optional cell-only)
  "Cancel RUN; it ends with the best answer so far.
Interactively, this is the run of the current buffer, else the one that is
going on.  With a prefix argument, CELL-ONLY, only the code that runs now is
stopped, and the model is told so."
  (interactive (list (rlm-live-run) current-prefix-arg))
  (cond ((not (rlm-run-live-p run))
         (user-error "The run has ended already"))
        ((not (rlm-run-id run))
         (dolist (buffer (rlm-run-live-buffers))
           (when (eq run (rlm-run-in-buffer buffer))
             (rlm-question-drop buffer)))
         (message "Not asked"))
        (t (message "Cancelling...")
           (rlm-client-cancel (rlm-run-id run)
                              (and cell-only (format "0.%d" (rlm-run-iterations run)))))))

(defun rlm-ask-anew ()
  "Ask the question of this buffer once more, in spite of kept answers.
What it is about is read anew; the new answers take the place of those kept."
  (interactive)
  (let ((run (or (rlm-run-in-buffer) (user-error "This buffer shows no run"))))
    (when (rlm-run-live-p run)
      (user-error "This question is being answered"))
    (rlm-question-ask-anew (current-buffer))))

(defun rlm-redraw ()
  "Draw the run of this buffer anew from its log; point stays in its node.
Who follows the end still does."
  (interactive)
  (unless (rlm-run-in-buffer)
    (user-error "This buffer shows no run"))
  (rlm-client-redraw (or (buffer-base-buffer) (current-buffer))
                     (unless (and rlm-trajectory-follow (eobp))
                       (rlm-restore-place))))

;;;###autoload
(defun rlm-open-run (summary)
  "Show a run, drawn from its log, and follow it if it is live.
SUMMARY is a plist as the server's `rlm/runs' gives it."
  (interactive (list (rlm-read-run)))
  (rlm-client-open summary))

(defun rlm-read-run ()
  "Let the user choose a run, the newest first."
  (let* ((runs (append (plist-get (rlm-rpc-call 'rlm/runs '(:limit 200) 10) :runs) nil))
         (table (mapcar (lambda (run) (cons (rlm--run-label run) run)) runs)))
    (unless table
      (user-error "There are no runs yet"))
    (cdr (assoc (rlm-read-one "Run: " (rlm--in-order table)) table))))

(defun rlm--in-order (table)
  "Return a completion table for the alist TABLE, in its order."
  (lambda (string predicate action)
    (if (eq action 'metadata)
        '(metadata (display-sort-function . identity) (cycle-sort-function . identity))
      (complete-with-action action table string predicate))))

(defun rlm--run-label (run)
  "Return a line for RUN, a plist."
  (format "%s  [%s, %s%s]"
          (truncate-string-to-width
           (replace-regexp-in-string "[ \t\n]+" " " (plist-get run :question)) 100 nil nil t)
          (format-time-string "%F %T" (plist-get run :started))
          (plist-get run :status)
          (let ((mark (plist-get run :mark)))
            (cond ((null mark) "")
                  ((eq (plist-get mark :good) t) ", good")
                  (t ", bad")))))

;;;; Server

;;;###autoload
(defun rlm-stop-server ()
  "Stop the server; what is going on is interrupted."
  (interactive)
  (unless (rlm-rpc-live-p)
    (user-error "No server is connected"))
  (rlm-rpc-stop "The server was stopped.")
  (message "The rlm server is stopped"))

;;;###autoload
(defun rlm-restart-server ()
  "Stop the server if there is one, and start it again."
  (interactive)
  (when (rlm-rpc-live-p)
    (rlm-rpc-stop "The server was restarted."))
  (rlm-server-forgive)
  (condition-case problem
      (rlm-rpc-request
       'rlm/status nil
       :success (lambda (status)
                  (message "The rlm server runs (version %s, process %s)"
                           (plist-get status :serverVersion) (plist-get status :pid)))
       :error (lambda (problem) (message "rlm: %s" (rlm-rpc-error-text problem))))
    (rlm-rpc-error (user-error "%s" (cadr problem)))))

(provide 'rlm-commands)
;;; rlm-commands.el ends here
