;;; rlm-question.el --- From a question to a run  -*- lexical-binding: t; -*-

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

;; A question is estimated, confirmed and asked; from then on it is a run.
;;
;; Every step is asynchronous, and each looks first whether the question
;; is still wanted: its buffer may have been killed meanwhile.

;;; Code:

(require 'cl-lib)
(require 'rlm)
(require 'rlm-call)
(require 'rlm-client)
(require 'rlm-context)
(require 'rlm-draw)
(require 'rlm-options)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-trajectory)

(defvar-local rlm-question--params nil
  "What this buffer's question is about, in the words of the protocol.")

(defvar-local rlm-question--confirm nil
  "The value of `rlm-confirm' for this buffer's question.")

;;;; Asking

(defun rlm-question-ask (question context &optional options)
  "Ask QUESTION about CONTEXT, an `rlm-context'; return the run's buffer.
OPTIONS is a plist as in the protocol; the rest is as the user has set it."
  ;; What the user has set may be local to the buffer that the question is about.
  (rlm-question--begin question context
                       (rlm-question-params context options)
                       rlm-confirm))

(defun rlm-question-ask-anew (buffer)
  "Ask the question of BUFFER once more, whatever answers are kept for it.
Return the buffer of the new run."
  (let* ((old (or (buffer-local-value 'rlm-client-context buffer)
                  (user-error "What this question was about isn't known here: ask it again")))
         (params (buffer-local-value 'rlm-question--params buffer))
         (options (plist-put (copy-sequence (plist-get params :options)) :fresh t))
         (context (rlm-context-again old)))
    (rlm-question--begin (rlm-run-question (rlm-run-in-buffer buffer)) context
                         (rlm-question--params context options)
                         (buffer-local-value 'rlm-question--confirm buffer))))

(defun rlm-question--begin (question context params confirm)
  "Ask QUESTION about CONTEXT, an `rlm-context'; return the run's buffer.
PARAMS are the request's parameters without the question, and CONFIRM is the
value of `rlm-confirm' that counts."
  (rlm-question-go-to context)
  (let ((buffer (rlm-trajectory-create question)))
    (with-current-buffer buffer
      (setf (rlm-run-host rlm-run-current) (rlm-context-host context))
      (setq rlm-client-context context
            rlm-question--params params
            rlm-question--confirm confirm)
      (add-hook 'kill-buffer-hook #'rlm-client-release nil t))
    (rlm-call-safely rlm-client-display-function buffer)
    (if confirm
        (rlm-question--estimate buffer)
      (rlm-question--send buffer))
    buffer))

;;;; In the words of the protocol

(defun rlm-question-go-to (context)
  "Let the server be that of the machine where CONTEXT is."
  (condition-case problem
      (rlm-rpc-use-host (rlm-context-host context))
    (rlm-rpc-error
     (rlm-context-release context)
     (user-error "%s" (cadr problem)))))

(defun rlm-question-params (context &optional options)
  "Return CONTEXT in the words of the protocol, with the options of a question.
OPTIONS, a plist, goes before what the user has set."
  (rlm-question--params context (rlm-question--options options)))

(defun rlm-question--params (context options)
  "Return CONTEXT, and the OPTIONS of a question, in the words of the protocol."
  (let ((overlays (rlm-question--there (rlm-context-overlays context) context)))
    (append (list :sources (vconcat (rlm-question--there (rlm-context-sources context) context)))
            (when overlays (list :overlays (vconcat overlays)))
            (when options (list :options options)))))

(defun rlm-question--there (places context)
  "Return PLACES, sources or overlays of CONTEXT, by their names on its machine."
  (if (not (rlm-context-host context))
      places
    (mapcar (lambda (place)
              (cl-loop for (name value) on place by #'cddr
                       nconc (list name (if (memq name '(:path :root :origin :spool))
                                            (file-local-name value)
                                          value))))
            places)))

(defun rlm-question--options (more)
  "Return the options of a question, a plist without what is not set.
MORE, such a plist, goes before what the user has set."
  (let ((options (rlm-options (rlm-options-of-user))))
    (append more (cl-loop for (name value) on options by #'cddr
                          unless (plist-member more name)
                          nconc (list name value)))))

;;;; What it would cost

(defun rlm-question--estimate (buffer)
  "Find out what the question of BUFFER would read and could cost."
  (rlm-trajectory-say buffer "measuring")
  (rlm-client-watch)
  (rlm-rpc-ask 'rlm/estimate (buffer-local-value 'rlm-question--params buffer)
               (lambda (estimate)
                 (when (rlm-client-wanted-p buffer)
                   (rlm-question--estimated buffer estimate)))
               (lambda (text) (rlm-client-fail buffer text))
               'never))

(defun rlm-question--estimated (buffer estimate)
  "Go on with the question of BUFFER, of which the server gives ESTIMATE."
  (let ((text (rlm-question-estimate-text estimate)))
    (if (and (eq (buffer-local-value 'rlm-question--confirm buffer) 'cost)
             (eq (plist-get estimate :free) t))
        (progn
          (message "Asking about %s" text)
          (rlm-question--send buffer))
      (rlm-trajectory-say buffer "waiting for you to confirm")
      (rlm-question--when-calm #'rlm-question--ask-user buffer text))))

(defun rlm-question-estimate (context success failure &optional options)
  "Ask the server what a question about CONTEXT would read and could cost.
SUCCESS gets the estimate, a plist, or FAILURE a sentence on what has gone
wrong; CONTEXT is released then.  OPTIONS are those of `rlm-question-params'."
  (rlm-question-go-to context)
  (rlm-rpc-ask 'rlm/estimate (rlm-question-params context options)
               (lambda (estimate)
                 (rlm-context-release context)
                 (funcall success estimate))
               (lambda (text)
                 (rlm-context-release context)
                 (funcall failure text))))

(defun rlm-question-estimate-text (estimate)
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
     (rlm-question--cost-text estimate))))

(defun rlm-question--cost-text (estimate)
  "Return the cost according to ESTIMATE."
  (let ((cost (plist-get estimate :cost))
        (limit (plist-get estimate :costLimit)))
    (concat (cond ((eq (plist-get estimate :free) t) "free")
                  (cost (concat "about " (rlm-figure-cost cost) " for one reading"))
                  (t "of unknown price"))
            (when limit
              (format ", never more than %s" (rlm-figure-cost limit))))))

;;;; Confirming and sending

(defun rlm-question--when-calm (function &rest arguments)
  "Call FUNCTION with ARGUMENTS as soon as nobody is typing or in a minibuffer.
A question that pops up amid typing would be answered by mistake."
  (let ((idle (current-idle-time)))
    (if (or noninteractive
            (and (not (active-minibuffer-window))
                 (or executing-kbd-macro
                     (and idle (> (float-time idle) 0.2)))))
        (apply function arguments)
      (apply #'run-at-time 0.1 nil #'rlm-question--when-calm function arguments))))

(defun rlm-question--ask-user (buffer text)
  "Ask the question of BUFFER if the user wants to, having read TEXT."
  (when (rlm-client-wanted-p buffer)
    (if (condition-case nil
            (let (inhibit-quit)
              (y-or-n-p (format "Ask about %s? " text)))
          (quit nil))
        (rlm-question--send buffer)
      (rlm-question-drop buffer)
      (message "Not asked"))))

(defun rlm-question-drop (buffer)
  "Forget the question of BUFFER, which has not been asked yet."
  (when (buffer-live-p buffer)
    (dolist (window (get-buffer-window-list buffer nil t))
      (quit-window nil window))
    (kill-buffer buffer)))

(defun rlm-question--send (buffer)
  "Ask the question of BUFFER.  It is sent once, whatever happens to it."
  (when (rlm-client-wanted-p buffer)
    (rlm-trajectory-say buffer "sending the question")
    (rlm-client-watch)
    (rlm-client-start 'rlm/ask (rlm-question--ask-params buffer)
                      (lambda (id log)
                        (if (rlm-client-wanted-p buffer)
                            (rlm-client-register buffer id log)
                          (rlm-client-cancel id)))
                      (lambda (text) (rlm-client-fail buffer text)))))

(defun rlm-question--ask-params (buffer)
  "Return the question of BUFFER in the words of the protocol."
  (let ((project (rlm-context-project (buffer-local-value 'rlm-client-context buffer))))
    (append (list :question (rlm-run-question (rlm-run-in-buffer buffer)))
            (when project (list :project project))
            (buffer-local-value 'rlm-question--params buffer))))

(provide 'rlm-question)
;;; rlm-question.el ends here
