;;; rlm-babel.el --- Ask the question of a source block  -*- lexical-binding: t; -*-

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

;; A block is asked as any question is, and its result comes when the run has
;; ended; where it is needed at once, it is waited for.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'ob)
(require 'ob-rlm)
(require 'rlm-ask)
(require 'rlm-babel-job)
(require 'rlm-babel-params)
(require 'rlm-babel-result)
(require 'rlm-client)
(require 'rlm-context)
(require 'rlm-question)
(require 'rlm-rpc)
(require 'rlm-options)
(require 'rlm-run)

(defun rlm-babel-ask (body params)
  "Ask the question BODY as PARAMS, the header arguments of the block, say.
Return the result of the block, or what stands for it until there is one.
Signal `user-error' if there is nothing to ask, or it is not to be asked."
  (let ((question (rlm-clean-question (string-trim body)))
        (options (rlm-options (rlm-babel--settings params)))
        (schema (rlm-babel--schema params)))
    (when (string-empty-p question)
      (user-error "The block has no question"))
    (rlm-babel--default-to-drawer params)
    (funcall (if (rlm-babel--at-once-p params) #'rlm-babel--ask-and-wait #'rlm-babel--ask-and-go-on)
             question
             (rlm-babel--context params)
             (append options (when schema (list :schema schema)))
             params)))

(defun rlm-babel--inline-p ()
  "Return non-nil if point is on a block or call that stands in a line."
  (memq (org-element-type (org-element-context)) '(inline-src-block inline-babel-call)))

(defun rlm-babel--default-to-drawer (params)
  "Let the result be in a drawer, unless PARAMS say what it is to be.
In a line, it has no drawer."
  (let ((results (cdr (assq :result-params params))))
    (when (and results
               (not (rlm-babel--inline-p))
               (not (seq-intersection
                     results '("file" "list" "vector" "table" "scalar" "verbatim" "raw" "html"
                               "latex" "org" "code" "pp" "drawer" "link" "none" "silent"))))
      ;; Org has looked at this list already: it is the list itself that has to change.
      (nconc results (list "drawer")))))

(defun rlm-babel--at-once-p (params)
  "Return non-nil if the result of the block with PARAMS is needed at once."
  (or noninteractive
      org-babel-exp-reference-buffer
      (equal "no" (rlm-babel--param :async params))
      (member "file" (cdr (assq :result-params params)))
      ;; Another block refers to this one.
      (let ((head (org-babel-where-is-src-block-head))
            (asked org-babel-current-src-block-location))
        (and head asked (/= head asked)))))

(defun rlm-babel--ask-and-go-on (question context options params)
  "Ask QUESTION about CONTEXT with OPTIONS; return what stands for the result.
PARAMS are the header arguments of the block."
  (let* ((token (format "asking-%08x%08x" (random #x100000000) (random #x100000000)))
         (post (assq :post params))
         (run-buffer (let ((rlm-client-display-function #'ignore)
                           (rlm-confirm (and (not (rlm-babel--param :budget params)) rlm-confirm)))
                       (rlm-ask-about question context options)))
         (job (rlm-babel--make-job
               :token token :buffer (current-buffer) :params params :run-buffer run-buffer
               :post (cdr post)
               :inline (rlm-babel--inline-p)
               :place (copy-marker (or org-babel-current-src-block-location (point))))))
    (if (not (rlm-run-live-p (rlm-run-in-buffer run-buffer)))
        (rlm-babel--failure nil (rlm-run-reason (rlm-run-in-buffer run-buffer)))
      ;; The placeholder is not to be processed, the result will be.
      (when post
        (setcdr post nil))
      (push job rlm-babel--jobs)
      (with-current-buffer run-buffer
        (add-hook 'rlm-after-run-functions #'rlm-babel--on-end nil t)
        (add-hook 'kill-buffer-hook #'rlm-babel--on-kill nil t))
      (rlm-babel--link token "being answered"))))

;;;; Where the answer is waited for

(defun rlm-babel--ask-and-wait (question context options params)
  "Ask QUESTION about CONTEXT with OPTIONS; wait for the result and return it.
PARAMS are the header arguments of the block."
  (rlm-question-go-to context)
  (let (confirmed)
    (unwind-protect
        (setq confirmed (rlm-babel--confirmed-p context options params))
      (unless confirmed
        (rlm-context-release context)))
    (unless confirmed
      (user-error "Not asked")))
  (let* ((rlm-client-display-function #'ignore)
         (rlm-confirm nil)
         (buffer (rlm-ask-about question context options))
         (run (rlm-run-in-buffer buffer))
         (problem (rlm-babel--wait buffer run (rlm-babel--number :timeout params rlm-babel-timeout))))
    (when (buffer-live-p buffer)
      (rlm-trajectory-flush buffer))
    (rlm-babel--result run problem params (rlm-babel--inline-p))))

(defun rlm-babel--wait (buffer run seconds)
  "Wait until RUN, that of BUFFER, has ended, at most for SECONDS.
Return nil, or a sentence on what went wrong.  If the user quits, or
time is over, the run is cancelled."
  (let* (fail done late
         (going-on-p (lambda () (and (not fail) (buffer-live-p buffer) (rlm-run-live-p run))))
         (wait (lambda (seconds)
                 (let ((end (+ (float-time) seconds)))
                   (while (and (funcall going-on-p) (< (float-time) end))
                     (accept-process-output nil 0.05)))))
         (watch (lambda (failed text) (when (eq failed buffer) (setq fail text)))))
    (add-hook 'rlm-client-fail-functions watch)
    (unwind-protect
        (progn
          (funcall wait seconds)
          (when (setq late (funcall going-on-p))
            (rlm-babel--cancel buffer run)
            (funcall wait 10))
          (setq done t))
      (remove-hook 'rlm-client-fail-functions watch)
      (unless done
        (rlm-babel--cancel buffer run)))
    (cond (fail)
          ((and late (or (rlm-run-live-p run) (null (rlm-run-answer run))))
           (format "There was none within %s seconds." seconds))
          ((not (rlm-run-live-p run)) nil)
          (t "Its buffer was killed."))))

(defun rlm-babel--cancel (buffer run)
  "Cancel RUN, that of BUFFER, or forget it if it was not asked yet."
  (if (rlm-run-id run)
      (rlm-client-cancel (rlm-run-id run))
    (rlm-question-drop buffer)))

(defun rlm-babel--confirmed-p (context options params)
  "Return non-nil if the question about CONTEXT may be asked at once.
OPTIONS are those of the question, PARAMS the header arguments of the block.
With a budget in the block, it may; else the user is asked as for any question."
  (or (null rlm-confirm)
      (rlm-babel--param :budget params)
      (let ((estimate (rlm-rpc-call 'rlm/estimate (rlm-question-params context options))))
        (or (and (eq rlm-confirm 'cost) (eq (plist-get estimate :free) t))
            (if noninteractive
                (user-error "This could cost money: %s; give the block a :budget"
                            (rlm-question-estimate-text estimate))
              (y-or-n-p (format "Ask about %s? " (rlm-question-estimate-text estimate))))))))

(provide 'rlm-babel)
;;; rlm-babel.el ends here
