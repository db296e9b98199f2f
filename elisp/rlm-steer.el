;;; rlm-steer.el --- Steer a run while it goes on, and ask it further  -*- lexical-binding: t; -*-

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

;; What a person does to a run beside watching it: a further question, a
;; note to the model, a pause, a decision about code that waits, code of
;; one's own.  Where it makes sense it goes to the child run that point is
;; in.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-client)
(require 'rlm-code)
(require 'rlm-node)
(require 'rlm-rpc)
(require 'rlm-run)

;;;; Whom it is for

(defun rlm-steer--run (&optional state)
  "Return the run that is meant, one that was asked.
STATE `live' demands one that is going on, `ended' one that has ended."
  (let ((run (if (eq state 'ended)
                 (or (rlm-run-in-buffer) (user-error "This buffer shows no run"))
               (rlm-live-run))))
    (cond ((not (rlm-run-id run)) (user-error "This question was not asked yet"))
          ((and (eq state 'live) (not (rlm-run-live-p run)))
           (user-error "The run has ended; r asks it further"))
          ((and (eq state 'ended) (rlm-run-live-p run))
           (user-error "The run is going on; i gives it a note")))
    run))

(defun rlm-steer--buffer (run)
  "Return the buffer of RUN."
  ;; That it was drawn anew makes no other run of it.
  (or (rlm-client-buffer (rlm-run-id run))
      (user-error "No buffer shows this run any more; M-x rlm-open-run shows it again")))

(defun rlm-steer--child (run)
  "Return the id of the live child run of RUN that point is in, or nil.
Where child runs are nested, it is the innermost."
  (let (found)
    (when (and (eq run (rlm-run-in-buffer)) rlm-node-table)
      (maphash (lambda (id node)
                 (when (and (assoc "RLM_DEPTH" (rlm-node-properties node))
                            (<= (rlm-node-start node) (point) (rlm-node-end node))
                            (or (null found) (> (length id) (length found))))
                   (setq found id)))
               rlm-node-table))
    found))

(defun rlm-steer--node (run)
  "Return the id of the child run of RUN that point is in, or of RUN itself."
  (or (rlm-steer--child run) "0"))

(defun rlm-steer--tell (method run params &optional success loose)
  "Ask the server METHOD about RUN with PARAMS, and don't wait.
SUCCESS gets the result; what has gone wrong is a message.  LOOSE is code
that would be lost then, or nil."
  (rlm-rpc-use-host (rlm-run-host run))
  (rlm-rpc-ask method (append (list :runId (rlm-run-id run)) params)
               (or success #'ignore)
               (lambda (text) (message "rlm: %s%s" text (rlm-code-keep loose)))
               'never))

;;;; Further questions, notes, pauses

(defun rlm-follow-up (run question &optional options)
  "Ask RUN, which has ended, a further QUESTION.
Its variables, its context and its conversation are still there, if it was
not long ago.  With a prefix argument, choose the models first.  From Lisp,
OPTIONS is a plist as in the protocol."
  (interactive
   (let ((run (rlm-steer--run 'ended))
         (options (rlm-read-options)))
     (list run (rlm-read-question "the same context, further") options)))
  (rlm-steer--buffer run)
  (rlm-steer--tell 'rlm/followUp run
                   (append (list :question question)
                           (when options (list :options options))))
  (rlm-steer-show-end run))

(defun rlm-steer-show-end (run)
  "Let those who see RUN see what comes; the mark is where they have been.
Return the buffer."
  ;; Who asks wants to see it.
  (with-current-buffer (rlm-steer--buffer run)
    (unless (eobp)
      (push-mark nil t)
      (goto-char (point-max)))
    (dolist (window (get-buffer-window-list nil nil t))
      (set-window-point window (point-max)))
    (current-buffer)))

(defun rlm-note (run text &optional node)
  "Tell the model of RUN, which is going on, TEXT with its next message.
Interactively, where point is in a child run, it is told to that one's
model: NODE."
  (interactive
   (let* ((run (rlm-steer--run 'live))
          (node (rlm-steer--node run))
          (text (string-trim (read-string (if (equal node "0") "Note to the model: "
                                            "Note to the model of this child run: ")))))
     (when (string-empty-p text)
       (user-error "No note"))
     (list run text node)))
  (rlm-steer--tell 'rlm/note run (list :text text :node (or node "0"))))

(defun rlm-pause (run)
  "Let RUN begin nothing new, or go on if it is paused.
What is under way comes to its end: a piece of code, a call to a model.  The
time that the run may take stands still."
  (interactive (list (rlm-steer--run 'live)))
  (rlm-steer--tell 'rlm/pause run
                   (list :paused (if (rlm-run-paused run) :json-false t))
                   (lambda (result)
                     (message (if (eq (plist-get result :paused) t)
                                  "Paused; what is under way comes to its end"
                                "Going on")))))

(defun rlm-cancel-child (run node)
  "Cancel the child run NODE of RUN; interactively, the one that point is in."
  (interactive
   (let ((run (rlm-steer--run 'live)))
     (list run (or (rlm-steer--child run)
                   (user-error "Point is in no child run that is going on")))))
  (rlm-client-cancel (rlm-run-id run) node)
  (message "Cancelling the child run..."))

;;;; Code that waits

(defun rlm-steer-waiting (run)
  "Return the code of RUN that waits and that is meant, a plist.
That is the one at point, else the one that has waited longest."
  (or (seq-find (lambda (wait)
                  (let ((node (and (eq run (rlm-run-in-buffer))
                                   (gethash (plist-get wait :node) rlm-node-table))))
                    (and node (<= (rlm-node-start node) (point) (1- (rlm-node-end node))))))
                (rlm-run-waiting run))
      (car (rlm-run-waiting run))
      (user-error "No code waits")))

(defun rlm-steer--decide (run wait &rest decision)
  "Send DECISION about WAIT, code of RUN that waits."
  (rlm-steer--tell 'rlm/approve run
                   (append (list :node (plist-get wait :node) :cell (plist-get wait :cell))
                           decision)
                   (lambda (result)
                     (unless (eq (plist-get result :accepted) t)
                       (message "That code does not wait any more%s"
                                (rlm-code-keep (plist-get decision :code)))))
                   (plist-get decision :code)))

(defun rlm-approve (run wait &optional all)
  "Let WAIT, code of RUN, run: the one at point, else the one that waits longest.
With a prefix argument, ALL, let all further code of the run go unasked."
  (interactive
   (let ((run (rlm-steer--run 'live)))
     (list run (rlm-steer-waiting run) current-prefix-arg)))
  (apply #'rlm-steer--decide run wait :decision "approve" (when all '(:rest t))))

(defun rlm-reject (run wait reason)
  "Don't let WAIT, code of RUN, go; the model is told REASON."
  (interactive
   (let* ((run (rlm-steer--run 'live))
          (wait (rlm-steer-waiting run)))
     (list run wait (rlm-steer--read-reason))))
  (rlm-steer--decide run wait :decision "reject" :reason reason))

(defun rlm-steer--read-reason ()
  "Read why code that waits is rejected."
  (string-trim (read-string "Reject this code, because: ")))

(defun rlm-edit-code (run wait)
  "Edit WAIT, a piece of code of RUN that waits.
Run what you have made of it with \\<rlm-code-mode-map>\\[rlm-code-run], or reject it with \\[rlm-code-drop]."
  (interactive
   (let ((run (rlm-steer--run 'live)))
     (list run (rlm-steer-waiting run))))
  (when (string-match-p "^\\[\\.\\.\\. [0-9,]+ of [0-9,]+ characters left out \\.\\.\\.\\]$"
                        (plist-get wait :code))
    (user-error "This code is too long to be edited; it can be run or rejected"))
  (rlm-code-open
   (format "*rlm code: %s*" (plist-get wait :node))
   (plist-get wait :code) "runs it in the model's place" "rejects it"
   (lambda (code) (rlm-steer--decide run wait :decision "edit" :code code))
   (lambda () (rlm-reject run wait (rlm-steer--read-reason)))))

;;;; Code of one's own

(defun rlm-exec (run &optional node)
  "Write code and run it in the namespace of RUN, between the model's or after it.
Interactively, where point is in a child run, in that one's: NODE.  The model
is told of it when it is asked next."
  (interactive
   (let ((run (rlm-steer--run)))
     (list run (rlm-steer--node run))))
  (rlm-code-open
   "*rlm code*" "" "runs it" "drops it"
   (lambda (code)
     (rlm-steer--buffer run)
     (rlm-exec-code run code node)
     (rlm-steer-show-end run))
   #'ignore))

(defun rlm-exec-code (run code &optional node stands)
  "Run CODE in the namespace of RUN, or of its child run NODE.
What it prints is shown in the buffer of RUN.  Code that can't be run goes to
the kill ring, unless STANDS says that it still stands in a buffer."
  (rlm-steer--tell 'rlm/exec run (list :code code :node (or node "0"))
                   (lambda (result)
                     (unless (equal (plist-get result :status) "ok")
                       (message "Your code: %s, %s" (plist-get result :status)
                                (plist-get result :error))))
                   (unless stands code)))

(provide 'rlm-steer)
;;; rlm-steer.el ends here
