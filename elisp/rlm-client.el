;;; rlm-client.el --- The runs of this Emacs, and their buffers  -*- lexical-binding: t; -*-

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

;; Between the connection, which knows no buffer, and the trajectory,
;; which knows no process: each run has a buffer, which gets its events, and
;; whatever ends it is told there.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm-call)
(require 'rlm-code)
(require 'rlm-context)
(require 'rlm-draw-run)
(require 'rlm-forks)
(require 'rlm-heartbeat)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-trajectory)

(defvar rlm-client--buffers (make-hash-table :test #'equal)
  "Buffers by the id of the run that they show.")

(defvar rlm-client--strays nil
  "Events, newest first, that came before the reply which names their run.")

(defvar rlm-client--asking 0
  "How many questions have been sent whose run has no name yet.")

(defvar rlm-client-live-hook nil
  "Hook run when a run may have become live.")

(defvar rlm-client-end-hook nil
  "Hook run when the connection has ended.")

(defvar rlm-client-fail-functions nil
  "Hook run when a question can't be asked, with its buffer and the reason.")

(defvar rlm-client-display-function #'pop-to-buffer
  "Function that shows the buffer of a question that is being asked.")

(defvar-local rlm-client-context nil
  "What this buffer's question is about.")

(defvar-local rlm-client--healing nil
  "Non-nil while missing events of this buffer's run have been asked for.")

;;;; Runs that begin

(defun rlm-client-start (method params success failure)
  "Let the server begin a run by METHOD with PARAMS.
SUCCESS is called with its id and the file of its log; the run has to be
known then, so that it gets the events that came before.  What has gone
wrong, a sentence, is given to FAILURE."
  (cl-incf rlm-client--asking)
  (rlm-rpc-ask method params
               (lambda (result)
                 (let ((early (rlm-client--named (plist-get result :runId))))
                   (unwind-protect
                       (funcall success (plist-get result :runId) (plist-get result :log))
                     (mapc #'rlm-client--on-event early))))
               (lambda (text)
                 (rlm-client--named nil)
                 (funcall failure text))
               ;; What is answered late may have been paid for.
               'never))

(defun rlm-client--named (id)
  "Note that a run was named ID, or nil if it can't begin.
Return its events that came before, oldest first."
  (let ((early (seq-filter (lambda (event) (equal (plist-get event :runId) id))
                           (reverse rlm-client--strays))))
    (setq rlm-client--asking (max 0 (1- rlm-client--asking)))
    (when (zerop rlm-client--asking)
      (setq rlm-client--strays nil))
    early))

(defun rlm-client-begin (method params question &optional begun)
  "Let the server begin a run by METHOD with PARAMS, and show it.
It gets a buffer, for QUESTION; if it can't begin, everything stays as it is.
BEGUN is called with its id and its buffer."
  (message "rlm: asking the server...")
  (rlm-client-start method params
                    (lambda (id log)
                      (message nil)
                      (let ((buffer (rlm-client-adopt-new id log question)))
                        (rlm-call-safely rlm-client-display-function buffer)
                        (when begun
                          (funcall begun id buffer))))
                    (lambda (text)
                      (message "rlm: %s%s" text (rlm-code-keep (plist-get params :code))))))

(defun rlm-client-adopt-new (id log question)
  "Return a new buffer for the run ID, whose log is LOG and which answers QUESTION."
  (let ((buffer (rlm-trajectory-create question)))
    (rlm-client-register buffer id log)
    buffer))

(defun rlm-client-register (buffer id log)
  "Let BUFFER show the run ID, whose log is the file LOG."
  (let ((run (rlm-run-in-buffer buffer)))
    (setf (rlm-run-id run) id
          (rlm-run-log run) (and log (concat rlm-server-host log))
          (rlm-run-host run) rlm-server-host
          (rlm-run-status run) "running"))
  (puthash id buffer rlm-client--buffers)
  (rlm-client-watch)
  (run-hooks 'rlm-client-live-hook))

;;;; Events

(defun rlm-client--on-event (event)
  "Give EVENT to the buffer of its run."
  (rlm-heartbeat-note)
  (let* ((id (plist-get event :runId))
         (buffer (gethash id rlm-client--buffers)))
    (cond ((and buffer (buffer-live-p buffer)) (rlm-client--take buffer event))
          (buffer (remhash id rlm-client--buffers))
          ((> rlm-client--asking 0) (push event rlm-client--strays)))))

(defun rlm-client--take (buffer event)
  "Give EVENT to BUFFER; ask for those that are missing before it."
  (let ((missing (rlm-trajectory-push buffer event))
        (kind (plist-get event :kind)))
    (with-current-buffer buffer
      (cond ((null missing) (setq rlm-client--healing nil))
            ((not rlm-client--healing)
             (setq rlm-client--healing t)
             (rlm-client--attach buffer missing)))
      (when (member kind '("contextReady" "runEnded"))
        (rlm-client-release)))))

(defun rlm-client--attach (buffer seq &optional ready)
  "Ask for the events of BUFFER's run from number SEQ on.
READY is called with the server's answer before they arrive."
  (rlm-rpc-ask 'rlm/attach (list :runId (rlm-run-id (rlm-run-in-buffer buffer)) :fromSeq seq)
               (lambda (result)
                 (when (buffer-live-p buffer)
                   (when ready
                     (funcall ready result))
                   (unless (eq (plist-get result :live) t)
                     (rlm-trajectory-expect buffer (plist-get result :lastSeq)))
                   (rlm-client-watch)))
               (lambda (text)
                 (when (buffer-live-p buffer)
                   (with-current-buffer buffer
                     (setq rlm-client--healing nil)))
                 ;; Nothing of it is there yet where it is not only to be drawn anew.
                 (when (rlm-client-wanted-p buffer)
                   (rlm-trajectory-fail buffer text))
                 (message "rlm: the run can't be shown: %s" text))))

;;;; Ends

(defun rlm-client-wanted-p (buffer)
  "Return non-nil if the question of BUFFER still waits to be asked."
  (and (buffer-live-p buffer)
       (equal (rlm-run-status (rlm-run-in-buffer buffer)) "asking")))

(defun rlm-client-fail (buffer text)
  "Say in BUFFER that its question can't be asked, and why: TEXT."
  (when (rlm-client-wanted-p buffer)
    (rlm-trajectory-fail buffer text)
    (with-current-buffer buffer
      (rlm-client-release))
    (run-hook-with-args 'rlm-client-fail-functions buffer text)
    (message "rlm: %s" text)))

(defun rlm-client-release ()
  "Delete what was spooled for the question of the current buffer."
  ;; An indirect buffer may end long before its question does.
  (when (and rlm-client-context (not (buffer-base-buffer)))
    (rlm-context-release rlm-client-context)))

(defun rlm-client-watch ()
  "Watch the server while a run is live, and only then."
  (rlm-heartbeat-watch (and (rlm-run-live-buffers) t)))

(defun rlm-client--on-end (reason)
  "Tell each live run that the connection has ended, and REASON, a sentence."
  (setq rlm-client--asking 0
        rlm-client--strays nil)
  (rlm-heartbeat-watch nil)
  (dolist (buffer (rlm-run-live-buffers))
    ;; What is called when another one ends may have killed it.
    (when (buffer-live-p buffer)
      (with-current-buffer buffer
        (if (rlm-run-id rlm-run-current)
            (rlm-trajectory-interrupt buffer (rlm-client--end-text rlm-run-current reason))
          (rlm-client-fail buffer (concat reason " Nothing was asked.")))
        (when (buffer-live-p buffer)
          (rlm-client-release)))))
  (run-hooks 'rlm-client-end-hook)
  (rlm-client-watch))

(defun rlm-client--end-text (run reason)
  "Return what to say of RUN when the connection has ended for REASON."
  (concat reason " What the run had told until then is in its log"
          (if (rlm-run-log run) (format ", %s." (abbreviate-file-name (rlm-run-log run))) ".")
          (if (rlm-rpc-shared-p) "  The server may go on with it: g asks it again." "")))

(defun rlm-client--on-silence (seconds)
  "Tell each live run of SECONDS without an answer; nil: there is one again."
  (dolist (buffer (rlm-run-live-buffers))
    (rlm-trajectory-say
     buffer (if seconds
                (format "no answer from the server for %.0f s (M-x rlm-restart-server)" seconds)
              "the server answers again"))))

;;;; The end of Emacs

(defun rlm-client--exit-p ()
  "Return non-nil if Emacs may end: no run is live, or the user agrees."
  (let ((count (length (rlm-run-live-buffers))))
    (or (zerop count)
        (rlm-rpc-shared-p)
        (yes-or-no-p (format "%s going on and would end with Emacs; end it? "
                             (if (= count 1) "A question is" (format "%d questions are" count)))))))

(defun rlm-client--on-exit ()
  "Save what each live run has shown, since Emacs ends."
  (rlm-client--on-end "Emacs was ended."))

(add-hook 'kill-emacs-query-functions #'rlm-client--exit-p)
(add-hook 'kill-emacs-hook #'rlm-client--on-exit)

(setq rlm-rpc-event-function #'rlm-client--on-event
      rlm-rpc-end-function #'rlm-client--on-end
      rlm-rpc-busy-function #'rlm-run-live-buffers
      rlm-heartbeat-silence-function #'rlm-client--on-silence
      rlm-trajectory-end-function #'rlm-client-watch
      rlm-trajectory-cancel-function #'rlm-client--give-up)

;;;; Cancelling, redrawing, opening

(defun rlm-client-cancel (id &optional node)
  "Cancel the run ID, or only the code of its NODE."
  (rlm-rpc-ask 'rlm/cancel `(:runId ,id ,@(when node (list :node node)))
               (lambda (result)
                 (unless (eq (plist-get result :cancelled) t)
                   (message (if node "No code is running" "The run has ended already"))))
               (lambda (text) (message "rlm: %s" text))
               10))

(defun rlm-client--give-up (run)
  "Cancel RUN, whose buffer is about to be killed.
Without a server, it has ended."
  (when (rlm-rpc-live-p)
    (rlm-client-cancel (rlm-run-id run))))

(defun rlm-client-buffer (id)
  "Return the live buffer of the run ID, or nil."
  (let ((buffer (gethash id rlm-client--buffers)))
    (and (buffer-live-p buffer) buffer)))

(defun rlm-client-redraw (buffer &optional node)
  "Draw the run of BUFFER anew from its log, and go to its NODE if that is given."
  (unless (rlm-run-id (rlm-run-in-buffer buffer))
    (user-error "This question was never asked"))
  (when (rlm-trajectory-replaying-p buffer)
    (user-error "The run is being drawn already"))
  (rlm-rpc-use-host (rlm-run-host (rlm-run-in-buffer buffer)))
  (rlm-client--attach buffer 0
                      (lambda (result)
                        (rlm-trajectory-reset buffer)
                        (rlm-client--adopt buffer (plist-get result :run))
                        (when node
                          (with-current-buffer buffer
                            (rlm-restore-go node)))
                        (rlm-forks-ask buffer))))

(defun rlm-client--adopt (buffer summary)
  "Let BUFFER show the run that SUMMARY, a plist, is about."
  (rlm-client-register buffer (plist-get summary :runId) (plist-get summary :log))
  (with-current-buffer buffer
    (setq rlm-client--healing t)))

(defun rlm-client-host (summary)
  "Return where the run is that SUMMARY, a plist, is about, as `rlm-server-host'.
Without a :host, it is where the server is that is used now."
  (if (plist-member summary :host) (plist-get summary :host) rlm-server-host))

(defun rlm-client-reach (summary)
  "Let the server be that of the run that SUMMARY, a plist, is about."
  (rlm-rpc-use-host (rlm-client-host summary)))

(defun rlm-client-discard (buffer)
  "Kill BUFFER, which was to show a run; the run itself is left alone."
  (with-current-buffer buffer
    (let (kill-buffer-query-functions)  ; half drawn, every run seems to go on
      (kill-buffer))))

(defun rlm-client-open (summary)
  "Show the run that SUMMARY, a plist, is about; return its buffer."
  (let* ((id (plist-get summary :runId))
         (buffer (rlm-client-buffer id)))
    (unless buffer
      (rlm-client-reach summary)
      (setq buffer (rlm-trajectory-create (plist-get summary :question)))
      (setf (rlm-run-id (rlm-run-in-buffer buffer)) id
            (rlm-run-host (rlm-run-in-buffer buffer)) rlm-server-host)
      (let (asked)
        (unwind-protect
            (progn (rlm-client-redraw buffer)
                   (setq asked t))
          ;; Who quits has never seen it.
          (unless asked
            (rlm-client-discard buffer)))))
    (pop-to-buffer buffer)
    buffer))

(provide 'rlm-client)
;;; rlm-client.el ends here
