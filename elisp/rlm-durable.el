;;; rlm-durable.el --- Let runs go on, fork, and ask again  -*- lexical-binding: t; -*-

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

;; A run is its log, so it can go on where it stopped, begin anew from any
;; of its iterations, or run its program again when its files have changed.
;; The commands work in a run's buffer, and in the list of runs.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-client)
(require 'rlm-code)
(require 'rlm-forks)
(require 'rlm-limits)
(require 'rlm-models)
(require 'rlm-run)
(require 'rlm-rpc)
(require 'rlm-runs)
(require 'rlm-live)
(require 'rlm-steer)

;;;; Going on

;;;###autoload
(defun rlm-resume-run (run &optional limits places)
  "Let RUN, a plist, go on from where it stopped, with LIMITS changed.
What was answered before is not paid for again.  LIMITS is a plist such
as (:iterations 40).  PLACES says where the run's files and directories
are, if they have moved since: names for all, in the order of the question.
Interactively you are asked for a limit if one has ended the run, or with a
prefix argument, and for the places if one is not there."
  (interactive
   (let ((run (rlm-runs-here)))
     (list run (when (or current-prefix-arg (equal "limit" (plist-get run :status)))
                 (rlm-durable--read-limits run t))
           (rlm-durable--read-places run))))
  (rlm-client-reach run)
  (rlm-rpc-ask 'rlm/resume `(:runId ,(plist-get run :runId)
                                    ,@(when limits (list :limits limits))
                                    ,@(when places (list :places (vconcat places))))
               (lambda (result)
                 (rlm-durable--show-anew (list :runId (plist-get result :runId)
                                               :question (plist-get run :question)
                                               :log (plist-get result :log))))
               (lambda (text) (message "rlm: it can't be resumed: %s" text))))

(defun rlm-durable--show-anew (run)
  "Show RUN, a plist, drawn from its log as it is now."
  (let ((buffer (rlm-client-buffer (plist-get run :runId))))
    (if (not buffer)
        (rlm-client-open run)
      (rlm-client-redraw buffer)
      (pop-to-buffer buffer))))

(defun rlm-durable--read-limits (run &optional more)
  "Let the user choose a limit of RUN, a plist, and its new value.
With MORE, the limit that has ended the run is proposed, at twice its value."
  (pcase-let ((`(,limits . ,reason) (rlm-durable--recorded (rlm-durable--log run))))
    (rlm-limits-read limits (and more reason))))

(defconst rlm-durable--beginning 1000000
  "Bytes of a log in which its first event ends.")

(defun rlm-durable--read-places (run)
  "Ask where the files of RUN, a plist, are now, if one is not where it was.
Return all their names, or nil if nothing has moved."
  (let* ((before (rlm-durable--places (rlm-durable--log run)))
         (host (rlm-client-host run))
         (there (lambda (file) (file-exists-p (concat host file)))))
    (unless (seq-every-p there before)
      (mapcar (lambda (file)
                (if (funcall there file)
                    file
                  (file-local-name
                   (expand-file-name
                    (read-file-name (format "%s is not there; where is it now: " file)
                                    host nil t)))))
              before))))

(defun rlm-durable--log (run)
  "Return the name of the file that is the log of RUN, a plist."
  (concat (rlm-client-host run) (plist-get run :log)))

(defun rlm-durable--places (log)
  "Return the files and directories that the run with this LOG is about.
Of a fork, whose log does not say so, return nil."
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8))
      (insert-file-contents log nil 0 rlm-durable--beginning))
    (goto-char (point-min))
    (forward-line)
    (narrow-to-region (point-min) (point))
    (delq nil (mapcar (lambda (source)
                        (pcase (plist-get source :kind)
                          ("file" (plist-get source :path))
                          ("tree" (plist-get source :root))))
                      (plist-get (rlm-durable--last-event '("runStarted")) :sources)))))

(defun rlm-durable--recorded (log)
  "Return the limits of the run with this LOG, and why it has ended or nil."
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8))
      (insert-file-contents log))
    (cons (plist-get (rlm-durable--last-event
                      '("runStarted" "runForked" "runResumed" "followUp" "limitsChanged"))
                     :limits)
          (plist-get (rlm-durable--last-event '("runEnded")) :reason))))

(defun rlm-durable--last-event (kinds)
  "Return the last event of one of KINDS in this buffer, a log, or nil."
  (goto-char (point-max))
  (when (re-search-backward (format "^{\"kind\":\"%s\".*}$" (regexp-opt kinds t)) nil t)
    (ignore-errors
      (json-parse-string (match-string 0) :object-type 'plist
                         :null-object nil :false-object nil))))

;;;; Asking again

;;;###autoload
(defun rlm-rerun (run)
  "Run the program of RUN, a plist, again, about its files as they are now.
Only sub-calls whose text has changed are paid.  The model is asked where
the code fails.  The new run ends with what has changed in the answer."
  (interactive (list (rlm-runs-here)))
  (rlm-client-reach run)
  (rlm-client-begin 'rlm/rerun (list :runId (plist-get run :runId)) (plist-get run :question)))

;;;; Forks

;;;###autoload
(defun rlm-fork-run (run iteration &rest changes)
  "Begin a run that shares what came before ITERATION of RUN, a plist.
CHANGES is a plist of :code, which runs in place of the model's; :options,
such as (:rootModel \"big\"); and :note, for the model to read.  What is shared
is neither paid nor stored again.  Interactively, the iteration is the one at
point, and you are asked what shall be different."
  (interactive (rlm-durable--read-fork))
  (if (eq (plist-get changes :code) 'edit)
      (rlm-durable-edit run iteration)
    (let ((id (plist-get run :runId)))
      (rlm-client-reach run)
      (rlm-client-begin 'rlm/fork `(:runId ,id :iteration ,iteration ,@changes)
                        (plist-get run :question)
                        (lambda (fork buffer)
                          (when-let ((parent (rlm-client-buffer id)))
                            (rlm-forks-add parent buffer iteration fork changes)))))))

(defun rlm-durable--read-fork ()
  "Let the user say how the run at point is to be forked."
  (let* ((run (rlm-runs-here))
         (iteration (or (rlm-durable--iteration) (read-number "Fork at iteration: " 1)))
         (what (completing-read
                (format "Fork at iteration %d with: " iteration)
                '("other code" "another model" "another limit" "a note") nil t)))
    (cl-list* run iteration
              (pcase what
                ("other code" (list :code 'edit))
                ("another model" (list :options (list :rootModel (rlm-durable--read-model run))))
                ("another limit" (list :options (list :limits (rlm-durable--read-limits run))))
                ("a note" (list :note (read-string "Note for the model: ")))
                (_ (user-error "Nothing would be different"))))))

(defun rlm-durable--read-model (run)
  "Let the user choose another root model than that of RUN, a plist."
  (rlm-client-reach run)
  (let* ((before (plist-get run :rootModel))
         (model (rlm-models-read "Root model" (rlm-models-fetch) before)))
    (when (equal model before)
      (user-error "Nothing would be different"))
    model))

(defun rlm-durable--iteration ()
  "Return the number of the run's own iteration at point, or nil."
  (when (derived-mode-p 'org-mode)
    (save-excursion
      (end-of-line)
      (and (re-search-backward "^\\*\\*? " nil t)
           (looking-at "\\*\\* Iteration \\([0-9]+\\)")
           (string-to-number (match-string 1))))))

(defun rlm-durable-edit (run iteration &optional code)
  "Let the user edit the code of ITERATION of RUN, or CODE, and fork with it."
  (rlm-code-open
   (format "*rlm fork: %s*" (rlm-durable--short (plist-get run :question)))
   (or code
       (when-let ((buffer (rlm-client-buffer (plist-get run :runId))))
         (with-current-buffer buffer (rlm-live-iteration-code iteration)))
       "")
   "runs it in a fork" "gives up"
   (lambda (code) (rlm-fork-run run iteration :code code))
   #'ignore))

(defun rlm-durable--short (question)
  "Return the beginning of QUESTION on one line."
  (truncate-string-to-width (replace-regexp-in-string "[ \t\n]+" " " question) 40))

;;;; Watching

(defvar rlm-durable--watched nil
  "Alist of watched runs' ids and questions.")

;;;###autoload
(defun rlm-watch (run &optional budget stop)
  "Run the program of RUN, a plist, again whenever its files change.
Together that may cost BUDGET dollars, nil: as much as each run may.  Each
answer is shown in a buffer of its own, with what has changed in it.
With a prefix argument, or if STOP is non-nil, no longer watch the run."
  (interactive
   (let ((run (rlm-runs-here)))
     (if current-prefix-arg
         (list run nil t)
       (list run (rlm-durable--read-budget)))))
  (let ((id (plist-get run :runId)))
    (rlm-client-reach run)
    (setq rlm-rpc-notice-function #'rlm-durable--on-notice)
    (rlm-rpc-ask 'rlm/watch `(:runId ,id :stop ,(if stop t :json-false)
                                     ,@(when budget (list :budget budget)))
                 (lambda (result)
                   (rlm-durable--watching id (plist-get run :question) result))
                 (lambda (text) (message "rlm: %s" text)))))

(defun rlm-durable--read-budget ()
  "Read a number of dollars; return nil for none."
  (let ((text (string-trim (read-string "Budget in dollars (empty: no limit): "))))
    (cond ((string-empty-p text) nil)
          ((string-match-p "\\`\\(?:[0-9]+\\.?[0-9]*\\|\\.[0-9]+\\)\\'" text) (string-to-number text))
          (t (user-error "%s is no number of dollars; 0.50 is one" text)))))

(defun rlm-durable--watching (id question result)
  "Note and tell whether the server's RESULT is that QUESTION's run ID is watched."
  (let ((watching (eq (plist-get result :watching) t)))
    (setf (alist-get id rlm-durable--watched nil t #'equal) (and watching question))
    (message "%s" (if watching
                      (concat "Watching " (string-join (plist-get result :places) ", "))
                    "No longer watching"))))

(defun rlm-durable--unwatched ()
  "Tell that nothing is watched any more, since the server that did so is gone."
  (when rlm-durable--watched
    (message "rlm: no longer watching, as the connection has ended: %s"
             (mapconcat (lambda (run) (rlm-durable--short (cdr run))) rlm-durable--watched "; "))
    (setq rlm-durable--watched nil)))

(add-hook 'rlm-client-end-hook #'rlm-durable--unwatched)

(defun rlm-durable--on-notice (method params)
  "Take PARAMS of the notification METHOD: a watched run is asked again."
  (when (eq method 'rlm/watched)
    (let ((question (alist-get (plist-get params :runId) rlm-durable--watched "A watched run"
                               nil #'equal))
          (new (plist-get params :newRunId)))
      (if (null new)
          (message "rlm: %s: %s" (rlm-durable--short question) (plist-get params :reason))
        (display-buffer (rlm-client-adopt-new new (plist-get params :log) question)
                        '(nil (inhibit-same-window . t)))
        (message "rlm: files have changed, asking again: %s" (rlm-durable--short question))))))

(provide 'rlm-durable)
;;; rlm-durable.el ends here
