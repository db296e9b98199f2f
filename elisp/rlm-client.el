;;; rlm-client.el --- The life of a question  -*- lexical-binding: t; -*-

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
;; which knows no process: a question is estimated, confirmed, asked, its
;; events are given to its buffer, and whatever ends it is told there.
;;
;; Every step is asynchronous, and each looks first whether the question
;; is still wanted: its buffer may have been killed meanwhile.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-context)
(require 'rlm-draw)
(require 'rlm-draw-run)
(require 'rlm-forks)
(require 'rlm-heartbeat)
(require 'rlm-options)
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

(defvar rlm-client-fail-functions nil
  "Hook run when a question can't be asked, with its buffer and the reason.")

(defvar rlm-client-display-function #'pop-to-buffer
  "Function that shows the buffer of a question that is being asked.")

(defvar-local rlm-client--context nil
  "What this buffer's question is about.")

(defvar-local rlm-client--params nil
  "What this buffer's question is about, in the words of the protocol.")

(defvar-local rlm-client--confirm nil
  "The value of `rlm-confirm' for this buffer's question.")

(defvar-local rlm-client--healing nil
  "Non-nil while missing events of this buffer's run have been asked for.")

;;;; From question to run

(defun rlm-client-ask (question context &optional options)
  "Ask QUESTION about CONTEXT, an `rlm-context'; return the run's buffer.
OPTIONS is a plist as in the protocol; the rest is as the user has set it."
  ;; What the user has set may be local to the buffer that the question is about.
  (rlm-client--begin question context
                     (rlm-client-params context options)
                     rlm-confirm))

(defun rlm-client-ask-anew (buffer)
  "Ask the question of BUFFER once more, whatever answers are kept for it.
Return the buffer of the new run."
  (let* ((old (or (buffer-local-value 'rlm-client--context buffer)
                  (user-error "What this question was about isn't known here: ask it again")))
         (params (buffer-local-value 'rlm-client--params buffer))
         (options (plist-put (copy-sequence (plist-get params :options)) :fresh t))
         (context (rlm-context-again old)))
    (rlm-client--begin (rlm-run-question (rlm-run-in-buffer buffer)) context
                       (rlm-client--params context options)
                       (buffer-local-value 'rlm-client--confirm buffer))))

(defun rlm-client--begin (question context params confirm)
  "Ask QUESTION about CONTEXT, an `rlm-context'; return the run's buffer.
PARAMS are the request's parameters without the question, and CONFIRM is the
value of `rlm-confirm' that counts."
  (rlm-client-go-to context)
  (let ((buffer (rlm-trajectory-create question)))
    (with-current-buffer buffer
      (setf (rlm-run-host rlm-run-current) (rlm-context-host context))
      (setq rlm-client--context context
            rlm-client--params params
            rlm-client--confirm confirm)
      (add-hook 'kill-buffer-hook #'rlm-client--release nil t))
    (funcall rlm-client-display-function buffer)
    (if confirm
        (rlm-client--estimate buffer)
      (rlm-client--send buffer))
    buffer))

(defun rlm-client-go-to (context)
  "Let the server be that of the machine where CONTEXT is."
  (condition-case problem
      (rlm-rpc-use-host (rlm-context-host context))
    (rlm-rpc-error
     (rlm-context-release context)
     (user-error "%s" (cadr problem)))))

(defun rlm-client-params (context &optional options)
  "Return CONTEXT in the words of the protocol, with the options of a question.
OPTIONS, a plist, goes before what the user has set."
  (rlm-client--params context (rlm-client--options options)))

(defun rlm-client--params (context options)
  "Return CONTEXT, and the OPTIONS of a question, in the words of the protocol."
  (let ((overlays (rlm-client--there (rlm-context-overlays context) context)))
    (append (list :sources (vconcat (rlm-client--there (rlm-context-sources context) context)))
            (when overlays (list :overlays (vconcat overlays)))
            (when options (list :options options)))))

(defun rlm-client--there (places context)
  "Return PLACES, sources or overlays of CONTEXT, by their names on its machine."
  (if (not (rlm-context-host context))
      places
    (mapcar (lambda (place)
              (cl-loop for (name value) on place by #'cddr
                       nconc (list name (if (memq name '(:path :root :origin :spool))
                                            (file-local-name value)
                                          value))))
            places)))

(defun rlm-client--options (more)
  "Return the options of a question, a plist without what is not set.
MORE, such a plist, goes before what the user has set."
  (let ((options (rlm-options (rlm-options-of-user))))
    (append more (cl-loop for (name value) on options by #'cddr
                          unless (plist-member more name)
                          nconc (list name value)))))

(defun rlm-client--wanted-p (buffer)
  "Return non-nil if the question of BUFFER still waits to be asked."
  (and (buffer-live-p buffer)
       (equal (rlm-run-status (rlm-run-in-buffer buffer)) "asking")))

(defun rlm-client--request (buffer method params success)
  "Ask the server METHOD with PARAMS for BUFFER; SUCCESS gets the result.
What goes wrong is told in BUFFER."
  (rlm-rpc-ask method params success (lambda (text) (rlm-client--fail buffer text)) 'never))

(defun rlm-client--fail (buffer text)
  "Say in BUFFER that its question can't be asked, and why: TEXT."
  (when (rlm-client--wanted-p buffer)
    (rlm-trajectory-fail buffer text)
    (with-current-buffer buffer
      (rlm-client--release))
    (run-hook-with-args 'rlm-client-fail-functions buffer text)
    (message "rlm: %s" text)))

(defun rlm-client--estimate (buffer)
  "Find out what the question of BUFFER would read and could cost."
  (rlm-trajectory-say buffer "measuring")
  (rlm-client--watch)
  (rlm-client--request
   buffer 'rlm/estimate (buffer-local-value 'rlm-client--params buffer)
   (lambda (estimate)
     (when (rlm-client--wanted-p buffer)
       (rlm-client--estimated buffer estimate)))))

(defun rlm-client--estimated (buffer estimate)
  "Go on with the question of BUFFER, of which the server gives ESTIMATE."
  (let ((text (rlm-client-estimate-text estimate)))
    (if (and (eq (buffer-local-value 'rlm-client--confirm buffer) 'cost)
             (eq (plist-get estimate :free) t))
        (progn
          (message "Asking about %s" text)
          (rlm-client--send buffer))
      (rlm-trajectory-say buffer "waiting for you to confirm")
      (rlm-client--when-calm #'rlm-client--ask-user buffer text))))

(defun rlm-client-estimate-text (estimate)
  "Return ESTIMATE, a plist, in a line for people."
  (let ((root (plist-get estimate :rootModel))
        (sub (plist-get estimate :subModel))
        (left-out (plist-get estimate :leftOut)))
    (concat
     (rlm-figure-count (plist-get estimate :documents) "file") ", "
     (rlm-figure-size (plist-get estimate :bytes)) ", about "
     (rlm-figure-number (plist-get estimate :tokens)) " tokens"
     (when left-out (format " (left out: %s)" (rlm-draw-counts left-out)))
     "; " root (unless (equal root sub) (format " and %s" sub)) "; "
     (rlm-client--cost-text estimate))))

(defun rlm-client--cost-text (estimate)
  "Return the cost according to ESTIMATE."
  (let ((cost (plist-get estimate :cost))
        (limit (plist-get estimate :costLimit)))
    (concat (cond ((eq (plist-get estimate :free) t) "free")
                  (cost (concat "about " (rlm-figure-cost cost) " for one reading"))
                  (t "of unknown price"))
            (when limit
              (format ", never more than %s" (rlm-figure-cost limit))))))

(defun rlm-client--when-calm (function &rest arguments)
  "Call FUNCTION with ARGUMENTS as soon as nobody is typing or in a minibuffer.
A question that pops up amid typing would be answered by mistake."
  (let ((idle (current-idle-time)))
    (if (or noninteractive
            (and (not (active-minibuffer-window))
                 (or executing-kbd-macro
                     (and idle (> (float-time idle) 0.2)))))
        (apply function arguments)
      (apply #'run-at-time 0.1 nil #'rlm-client--when-calm function arguments))))

(defun rlm-client--ask-user (buffer text)
  "Ask the question of BUFFER if the user wants to, having read TEXT."
  (when (rlm-client--wanted-p buffer)
    (if (condition-case nil
            (let (inhibit-quit)
              (y-or-n-p (format "Ask about %s? " text)))
          (quit nil))
        (rlm-client--send buffer)
      (rlm-client-drop buffer)
      (message "Not asked"))))

(defun rlm-client-drop (buffer)
  "Forget the question of BUFFER, which has not been asked yet."
  (when (buffer-live-p buffer)
    (dolist (window (get-buffer-window-list buffer nil t))
      (quit-window nil window))
    (kill-buffer buffer)))

(defun rlm-client--send (buffer)
  "Ask the question of BUFFER.  It is sent once, whatever happens to it."
  (when (rlm-client--wanted-p buffer)
    (rlm-trajectory-say buffer "sending the question")
    (rlm-client--watch)
    (cl-incf rlm-client--asking)
    (rlm-rpc-ask 'rlm/ask (rlm-client--ask-params buffer)
                 (lambda (result) (rlm-client--asked buffer result))
                 (lambda (text)
                   (rlm-client--no-longer-asking)
                   (rlm-client--fail buffer text))
                 ;; What is answered late may have been paid for.
                 'never)))

(defun rlm-client--ask-params (buffer)
  "Return the question of BUFFER in the words of the protocol."
  (let ((project (rlm-context-project (buffer-local-value 'rlm-client--context buffer))))
    (append (list :question (rlm-run-question (rlm-run-in-buffer buffer)))
            (when project (list :project project))
            (buffer-local-value 'rlm-client--params buffer))))

(defun rlm-client--no-longer-asking ()
  "Note that one question less waits for the name of its run."
  (setq rlm-client--asking (max 0 (1- rlm-client--asking)))
  (when (zerop rlm-client--asking)
    (setq rlm-client--strays nil)))

(defun rlm-client--asked (buffer result)
  "Let BUFFER show the run that RESULT names."
  (let* ((id (plist-get result :runId))
         (early (seq-filter (lambda (event) (equal (plist-get event :runId) id))
                            (reverse rlm-client--strays))))
    (rlm-client--no-longer-asking)
    (if (not (rlm-client--wanted-p buffer))
        (rlm-client-cancel id)
      (rlm-client--register buffer id (plist-get result :log))
      (mapc #'rlm-client--on-event early))))

;;;; Runs that begin from past ones

(defun rlm-client-begin (method params question &optional begun)
  "Let the server begin a run by METHOD with PARAMS, and show it.
It gets a buffer, for QUESTION; if it can't begin, everything stays as it is.
BEGUN is called with its id and its buffer."
  (cl-incf rlm-client--asking)
  (message "rlm: asking the server...")
  (rlm-rpc-ask method params
               (lambda (result)
                 (message nil)
                 (rlm-client--begun (plist-get result :runId) (plist-get result :log)
                                    question begun))
               (lambda (text)
                 (rlm-client--no-longer-asking)
                 (message "rlm: %s" text))
               'never))

(defun rlm-client--begun (id log question begun)
  "Show the run ID, whose log is the file LOG, in a new buffer for QUESTION.
BEGUN, unless nil, is called with the id and the buffer."
  (let ((early (seq-filter (lambda (event) (equal (plist-get event :runId) id))
                           (reverse rlm-client--strays))))
    (rlm-client--no-longer-asking)
    (let ((buffer (rlm-client-adopt-new id log question)))
      (funcall rlm-client-display-function buffer)
      (when begun
        (funcall begun id buffer)))
    (mapc #'rlm-client--on-event early)))

(defun rlm-client-adopt-new (id log question)
  "Return a new buffer for the run ID, whose log is LOG and which answers QUESTION."
  (let ((buffer (rlm-trajectory-create question)))
    (rlm-client--register buffer id log)
    buffer))

(defun rlm-client--register (buffer id log)
  "Let BUFFER show the run ID, whose log is the file LOG."
  (let ((run (rlm-run-in-buffer buffer)))
    (setf (rlm-run-id run) id
          (rlm-run-log run) (and log (concat rlm-server-host log))
          (rlm-run-host run) rlm-server-host
          (rlm-run-status run) "running"))
  (puthash id buffer rlm-client--buffers)
  (rlm-client--watch)
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
        (rlm-client--release)))))

(defun rlm-client--attach (buffer seq &optional ready)
  "Ask for the events of BUFFER's run from number SEQ on.
READY is called with the server's answer before they arrive."
  (rlm-rpc-request
   'rlm/attach (list :runId (rlm-run-id (rlm-run-in-buffer buffer)) :fromSeq seq)
   :success (lambda (result)
              (when (buffer-live-p buffer)
                (when ready
                  (funcall ready result))
                (unless (eq (plist-get result :live) t)
                  (rlm-trajectory-expect buffer (plist-get result :lastSeq)))
                (rlm-client--watch)))
   :error (lambda (problem)
            (let ((text (rlm-rpc-error-text problem)))
              ;; Nothing of it is there yet where it is not only to be drawn anew.
              (when (rlm-client--wanted-p buffer)
                (rlm-trajectory-fail buffer text))
              (message "rlm: the run can't be shown: %s" text)))))

(defun rlm-client--release ()
  "Delete what was spooled for the question of the current buffer."
  (when rlm-client--context
    (rlm-context-release rlm-client--context)))

(defun rlm-client-live-buffers ()
  "Return each buffer that has a live run."
  (seq-filter (lambda (buffer)
                (when-let ((run (rlm-run-in-buffer buffer)))
                  (rlm-run-live-p run)))
              (buffer-list)))

(defun rlm-client--watch ()
  "Watch the server while a run is live, and only then."
  (rlm-heartbeat-watch (and (rlm-client-live-buffers) t)))

(defun rlm-client--on-end (reason)
  "Tell each live run that the connection has ended, and REASON, a sentence."
  (setq rlm-client--asking 0
        rlm-client--strays nil)
  (rlm-heartbeat-watch nil)
  (dolist (buffer (rlm-client-live-buffers))
    (let ((run (rlm-run-in-buffer buffer)))
      (with-current-buffer buffer
        (if (rlm-run-id run)
            (rlm-trajectory-interrupt buffer (rlm-client--end-text run reason))
          (rlm-client--fail buffer (concat reason " Nothing was asked.")))
        (rlm-client--release)))))

(defun rlm-client--end-text (run reason)
  "Return what to say of RUN when the connection has ended for REASON."
  (concat reason " What the run had told until then is in its log"
          (if (rlm-run-log run) (format ", %s." (abbreviate-file-name (rlm-run-log run))) ".")
          (if (rlm-rpc-shared-p) "  The server may go on with it: g asks it again." "")))

(defun rlm-client--on-silence (seconds)
  "Tell each live run of SECONDS without an answer; nil: there is one again."
  (dolist (buffer (rlm-client-live-buffers))
    (rlm-trajectory-say
     buffer (if seconds
                (format "no answer from the server for %.0f s (M-x rlm-restart-server)" seconds)
              "the server answers again"))))

;;;; The end of Emacs

(defun rlm-client--exit-p ()
  "Return non-nil if Emacs may end: no run is live, or the user agrees."
  (let ((count (length (rlm-client-live-buffers))))
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
      rlm-rpc-busy-function #'rlm-client-live-buffers
      rlm-heartbeat-silence-function #'rlm-client--on-silence
      rlm-trajectory-end-function #'rlm-client--watch
      rlm-trajectory-cancel-function (lambda (run) (rlm-client-cancel (rlm-run-id run))))

;;;; Cancelling, redrawing, opening

(defun rlm-client-cancel (id &optional node)
  "Cancel the run ID, or only the code of its NODE."
  (rlm-rpc-request
   'rlm/cancel `(:runId ,id ,@(when node (list :node node)))
   :timeout 10
   :success (lambda (result)
              (unless (eq (plist-get result :cancelled) t)
                (message (if node "No code is running" "The run has ended already"))))
   :error (lambda (problem) (message "rlm: %s" (rlm-rpc-error-text problem)))))

(defun rlm-client-buffer (id)
  "Return the live buffer of the run ID, or nil."
  (let ((buffer (gethash id rlm-client--buffers)))
    (and (buffer-live-p buffer) buffer)))

(defun rlm-client-redraw (buffer)
  "Draw the run of BUFFER anew from its log."
  (unless (rlm-run-id (rlm-run-in-buffer buffer))
    (user-error "This question was never asked"))
  (when (rlm-trajectory-replaying-p buffer)
    (user-error "The run is being drawn already"))
  (rlm-rpc-use-host (rlm-run-host (rlm-run-in-buffer buffer)))
  (rlm-client--attach buffer 0
                      (lambda (result)
                        (rlm-trajectory-reset buffer)
                        (rlm-client--adopt buffer (plist-get result :run))
                        (rlm-forks-ask buffer))))

(defun rlm-client--adopt (buffer summary)
  "Let BUFFER show the run that SUMMARY, a plist, is about."
  (rlm-client--register buffer (plist-get summary :runId) (plist-get summary :log))
  (with-current-buffer buffer
    (setq rlm-client--healing t)))

(defun rlm-client-open (summary)
  "Show the run that SUMMARY, a plist, is about; return its buffer."
  (let* ((id (plist-get summary :runId))
         (buffer (gethash id rlm-client--buffers)))
    (unless (buffer-live-p buffer)
      (setq buffer (rlm-trajectory-create (plist-get summary :question)))
      (setf (rlm-run-id (rlm-run-in-buffer buffer)) id
            (rlm-run-host (rlm-run-in-buffer buffer)) rlm-server-host)
      (rlm-client-redraw buffer))
    (pop-to-buffer buffer)
    buffer))

(provide 'rlm-client)
;;; rlm-client.el ends here
