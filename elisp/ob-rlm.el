;;; ob-rlm.el --- Org Babel functions for questions to rlm  -*- lexical-binding: t; -*-

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

;; A source block of the language rlm is a question:
;;
;;   #+begin_src rlm :context ~/src/harbour :budget 0.50 :var prices=prices
;;   Which boats cost more than they should?
;;   #+end_src
;;
;; It is asked in the background.  A placeholder with a link to the run
;; stands where the result will be; when the run has ended, the result takes
;; its place, wherever it is by then.  Where a result is needed at once, in
;; exports, in batch and in references from other blocks, it is waited for,
;; though not for ever.
;;
;; Have it known to Org by `org-babel-do-load-languages', or by
;;
;;   (require 'ob-rlm)

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'ob)
(require 'org-src)
(require 'org-table)
(require 'rlm)
(require 'rlm-babel-params)
(require 'rlm-babel-result)
(require 'rlm-client)
(require 'rlm-context)
(require 'rlm-ol)
(require 'rlm-question)
(require 'rlm-rpc)
(require 'rlm-options)
(require 'rlm-run)

(defcustom rlm-babel-timeout 900
  "Seconds to wait for an answer where it is needed at once.
That is in exports, in batch, in references from other blocks, and with the
header argument \":async no\".  The header argument \":timeout\" goes before.
A run that takes longer is cancelled, and its best answer so far is taken."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

(defvar org-babel-default-header-args:rlm
  `((:results . "replace")
    (:exports . "both")
    ;; What has an answer is not asked again by an export.
    (:eval . ,(lambda () (if (and org-babel-exp-reference-buffer (rlm-babel--result-p))
                             "no-export"
                           "yes"))))
  "Default header arguments of rlm blocks.")

(defvar org-babel-header-args:rlm)      ; org-lint and completion look for it
(set 'org-babel-header-args:rlm
     '((context . :any) (model . :any) (sub-model . :any) (depth . :any) (budget . :any)
       (seconds . :any) (iterations . :any) (preset . :any) (fresh . ((yes no)))
       (async . ((yes no))) (timeout . :any)))

(defun rlm-babel--result-p ()
  "Return non-nil if the block at point has a result that is not empty."
  (ignore-errors
    (when-let ((start (org-babel-where-is-src-block-result)))
      (save-excursion
        (goto-char start)
        (forward-line)
        (not (looking-at-p "[ \t]*$"))))))

;; A question is prose, where it is edited in a buffer of its own.
(add-to-list 'org-src-lang-modes '("rlm" . text))

;;;; Questions that are being answered

(cl-defstruct (rlm-babel--job (:constructor rlm-babel--make-job) (:copier nil))
  "A block that waits for its result."
  token                                 ; what its placeholder can be found by
  buffer                                ; that has the block
  place                                 ; marker at the block
  run-buffer                            ; that shows the run
  params                                ; the header arguments
  post                                  ; the header argument :post
  inline)                               ; non-nil if it stands in a line

(defvar rlm-babel--jobs nil
  "The blocks that wait for their results.")

;;;###autoload
(defun org-babel-execute:rlm (body params)
  "Ask the question BODY as PARAMS, the header arguments of the block, say.
This function is called by `org-babel-execute-src-block'."
  (let ((question (rlm-clean-question (string-trim body)))
        (options (rlm-options (rlm-babel--settings params)))
        (schema (rlm-babel--schema params)))
    (when (string-empty-p question)
      (user-error "The block has no question"))
    (rlm-babel--default-to-drawer params)
    (funcall (if (rlm-babel--at-once-p params) #'rlm-babel--ask-and-wait #'rlm-babel--ask)
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

(defun rlm-babel--ask (question context options params)
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

(defun rlm-babel--job-in-buffer (buffer)
  "Return the job whose run is in BUFFER, or nil."
  (seq-find (lambda (job) (eq buffer (rlm-babel--job-run-buffer job))) rlm-babel--jobs))

(defun rlm-babel--on-live ()
  "Let the placeholders name their questions, as soon as these are named."
  (dolist (job rlm-babel--jobs)
    (when-let* ((run (and (buffer-live-p (rlm-babel--job-run-buffer job))
                          (rlm-run-in-buffer (rlm-babel--job-run-buffer job))))
                (id (rlm-run-id run))
                (token (rlm-babel--job-token job)))
      (unless (equal id token)
        (setf (rlm-babel--job-token job) id)
        (rlm-babel--at-token job token
                          (lambda ()
                            (let ((inhibit-read-only t))
                              (replace-match id t t))))))))

(defun rlm-babel--at-token (job token function)
  "Call FUNCTION where TOKEN stands in the buffer of JOB, just matched.
Return nil if it is nowhere there, else non-nil."
  (when (buffer-live-p (rlm-babel--job-buffer job))
    (with-current-buffer (rlm-babel--job-buffer job)
      (org-with-wide-buffer
       (goto-char (point-min))
       (when (re-search-forward (format "rlm:\\(%s\\)" (regexp-quote token)) nil t)
         (set-match-data (list (match-beginning 1) (match-end 1)))
         (funcall function)
         t)))))

(defun rlm-babel--on-end (run)
  "Put the answer of RUN, which has ended, where its block wants it."
  (when-let ((job (rlm-babel--job-in-buffer (current-buffer))))
    (rlm-babel--finish job run nil)))

(defun rlm-babel--on-fail (buffer text)
  "Say where the block wants its result that the question of BUFFER can't be asked.
TEXT says why."
  (when-let ((job (rlm-babel--job-in-buffer buffer)))
    (rlm-babel--finish job (rlm-run-in-buffer buffer) text)))

(defun rlm-babel--on-kill ()
  "Say in the placeholder that the question was given up with this buffer."
  (when-let ((job (rlm-babel--job-in-buffer (current-buffer))))
    (let ((run (rlm-run-in-buffer (current-buffer))))
      (rlm-babel--finish job run (if (rlm-run-id run) "Its buffer was killed." "Not asked.")))))

(add-hook 'rlm-client-live-hook #'rlm-babel--on-live)
(add-hook 'rlm-client-fail-functions #'rlm-babel--on-fail)

;;;; Results

(defun rlm-babel--finish (job run problem)
  "Put the answer of RUN, or PROBLEM, a sentence, in place of JOB's placeholder."
  (setq rlm-babel--jobs (delq job rlm-babel--jobs))
  (condition-case failure
      (cond ((seq-intersection '("none" "silent") (rlm-babel--result-params job))
             (message "rlm: %s" (or problem (rlm-run-answer run) (rlm-run-reason run))))
            ((not (rlm-babel--insert job (rlm-babel--post job (rlm-babel--result
                                                         run problem
                                                         (rlm-babel--job-params job)
                                                         (rlm-babel--job-inline job)))
                                  (or problem (not (equal "done" (rlm-run-status run))))))
             (rlm-babel--say-lost job)))
    (error (message "rlm: the result can't be inserted (%s); it is in %s"
                    (error-message-string failure)
                    (buffer-name (rlm-babel--job-run-buffer job)))))
  (set-marker (rlm-babel--job-place job) nil))

(defun rlm-babel--result-params (job)
  "Return the words of the header argument :results of JOB."
  (cdr (assq :result-params (rlm-babel--job-params job))))

(defun rlm-babel--say-lost (job)
  "Say that JOB's placeholder is gone, and where the answer is."
  (message "rlm: the placeholder of the result is gone; the answer is in %s"
           (buffer-name (rlm-babel--job-run-buffer job))))

(defun rlm-babel--post (job result)
  "Return RESULT after the header argument :post of JOB."
  (if (not (rlm-babel--job-post job))
      result
    (with-current-buffer (if (buffer-live-p (rlm-babel--job-buffer job))
                             (rlm-babel--job-buffer job)
                           (current-buffer))
      (save-excursion
        (cl-progv '(*this*) (list result)
          (org-babel-ref-resolve (rlm-babel--job-post job)))))))

(defun rlm-babel--insert (job result wrong)
  "Insert RESULT where JOB's placeholder is; return nil if there is none.
If it is WRONG, it is not kept as a cached result."
  (rlm-babel--at-token
   job (rlm-babel--job-token job)
   (lambda ()
     (let ((token (copy-marker (point)))
           (inhibit-read-only t))
       ;; To be undone by itself, whatever the user has typed meanwhile.
       (undo-boundary)
       (if (and (not (seq-intersection '("append" "prepend") (rlm-babel--result-params job)))
                (rlm-babel--go-to-block job token))
           (let ((info (org-babel-get-src-block-info 'light))
                 (hash (org-babel-current-result-hash)))
             (when (and wrong hash)
               (rlm-babel--forget-hash)
               (setq hash nil))
             (org-babel-insert-result result (rlm-babel--result-params job) info hash "rlm"))
         (rlm-babel--replace-link token result))
       (undo-boundary)
       (set-marker token nil)))))

(defun rlm-babel--go-to-block (job token)
  "Go to the block of JOB, in whose result the position TOKEN is.
Return nil if it is not found; then point is anywhere."
  (or (when-let ((place (marker-position (rlm-babel--job-place job))))
        (goto-char place)
        (rlm-babel--result-holds-p token))
      (progn
        (goto-char token)
        (let ((case-fold-search t)
              found)
          (while (and (not found)
                      (re-search-backward
                       "^[ \t]*#\\+\\(?:begin_src[ \t]+rlm\\|call:\\)\\|src_rlm\\|call_" nil t))
            (setq found (rlm-babel--result-holds-p token)))
          found))))

(defun rlm-babel--result-holds-p (position)
  "Return non-nil if POSITION is in the result of the block at point."
  (when-let ((start (ignore-errors (org-babel-where-is-src-block-result))))
    (save-excursion
      (goto-char start)
      (and (<= start position)
           (or (= (line-number-at-pos start) (line-number-at-pos position))
               (progn (forward-line)
                      (<= position (org-babel-result-end))))))))

(defun rlm-babel--forget-hash ()
  "Remove the hash of the result of the block at point."
  (save-excursion
    (goto-char (org-babel-where-is-src-block-result))
    (let ((case-fold-search t))
      (when (looking-at "[ \t]*#\\+results\\(\\[[^]]*\\]\\)")
        (delete-region (match-beginning 1) (match-end 1))))))

(defun rlm-babel--replace-link (position result)
  "Replace the link at POSITION by RESULT, whatever that is."
  (goto-char position)
  (when (org-in-regexp org-link-bracket-re)
    (delete-region (match-beginning 0) (match-end 0))
    (goto-char (match-beginning 0)))
  (insert (string-trim-right
           (cond ((stringp result) result)
                 ((ignore-errors (consp (car result))) (orgtbl-to-orgtbl result nil))
                 (t (mapconcat (lambda (item) (format "- %s" item)) result "\n"))))))

;;;; Where the answer is waited for

(defun rlm-babel--ask-and-wait (question context options params)
  "Ask QUESTION about CONTEXT with OPTIONS; wait for the result and return it.
PARAMS are the header arguments of the block."
  (rlm-question-go-to context)
  (unless (rlm-babel--confirmed-p context options params)
    (rlm-context-release context)
    (user-error "Not asked"))
  (let* ((rlm-client-display-function #'ignore)
         (rlm-confirm nil)
         (buffer (rlm-ask-about question context options))
         (run (rlm-run-in-buffer buffer))
         (problem (rlm-babel--wait buffer run (rlm-babel--number :timeout params rlm-babel-timeout))))
    (rlm-trajectory-flush buffer)
    (rlm-babel--result run problem params (rlm-babel--inline-p))))

(defun rlm-babel--wait (buffer run seconds)
  "Wait until RUN, that of BUFFER, has ended, at most for SECONDS.
Return nil, or a sentence on what went wrong.  If the user quits, or
time is over, the run is cancelled."
  (let ((end (+ (float-time) seconds))
        (fail nil)
        done)
    (let ((watch (lambda (failed text) (when (eq failed buffer) (setq fail text)))))
      (add-hook 'rlm-client-fail-functions watch)
      (unwind-protect
          (progn
            (while (and (not fail) (rlm-run-live-p run) (< (float-time) end))
              (accept-process-output nil 0.05))
            (when (and (not fail) (rlm-run-live-p run))
              (rlm-babel--cancel buffer run)
              (setq end (+ (float-time) 10))
              (while (and (rlm-run-live-p run) (< (float-time) end))
                (accept-process-output nil 0.05)))
            (setq done t))
        (remove-hook 'rlm-client-fail-functions watch)
        (unless done
          (rlm-babel--cancel buffer run))))
    (or fail
        (and (rlm-run-live-p run)
             (format "There was none within %s seconds." seconds)))))

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

;;;; Links

(defun rlm-babel-show-job (id)
  "Show the run of the block whose result has ID for its place, if there is one."
  (let ((job (seq-find (lambda (job) (equal id (rlm-babel--job-token job))) rlm-babel--jobs)))
    (cond (job (pop-to-buffer (rlm-babel--job-run-buffer job)))
          ((string-prefix-p "asking-" id)
           (user-error "That question was never asked")))))

(add-hook 'rlm-ol-open-functions #'rlm-babel-show-job)

(provide 'ob-rlm)
;;; ob-rlm.el ends here
