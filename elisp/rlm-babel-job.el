;;; rlm-babel-job.el --- Blocks that wait for their results  -*- lexical-binding: t; -*-

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

;; A block that was asked in the background has a placeholder, a link to its
;; run.  When the run has ended, the result takes its place, wherever it is
;; by then.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'ob)
(require 'org-table)
(require 'rlm-babel-result)
(require 'rlm-client)
(require 'rlm-run)

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

;;;; When something happens to it

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

;;;; Putting the result there

(defun rlm-babel--finish (job run problem)
  "Put the answer of RUN, or PROBLEM, a sentence, in place of JOB's placeholder."
  (setq rlm-babel--jobs (delq job rlm-babel--jobs))
  (condition-case failure
      (cond ((seq-intersection '("none" "silent") (rlm-babel--result-params job))
             (message "rlm: %s" (or problem (rlm-run-answer run) (rlm-run-reason run))))
            ((not (and (buffer-live-p (rlm-babel--job-buffer job))
                       (rlm-babel--insert job (rlm-babel--post job (rlm-babel--result
                                                                    run problem
                                                                    (rlm-babel--job-params job)
                                                                    (rlm-babel--job-inline job)))
                                          (or problem (not (equal "done" (rlm-run-status run)))))))
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
    (with-current-buffer (rlm-babel--job-buffer job)
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
             (org-babel-insert-result result (rlm-babel--result-params job) info hash "rlm")
             (rlm-babel--link-above job))
         (rlm-babel--replace-link token result))
       (undo-boundary)
       (set-marker token nil)))))

(defun rlm-babel--link-above (job)
  "Put a link to the run of JOB above the result of the block at point.
That is an attribute, which is no part of the value; what is text for people
has the link in it."
  (unless (or (rlm-babel--job-inline job)
              (seq-intersection '("raw" "drawer") (rlm-babel--result-params job)))
    (save-excursion
      (goto-char (org-babel-where-is-src-block-result))
      (let ((indentation (current-indentation)))
        (forward-line)
        (indent-to indentation)
        (insert "#+attr_rlm: " (rlm-babel--link (rlm-babel--job-token job) "the run") "\n")))))

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

;;;; Links

(defun rlm-babel-show-job (id)
  "Show the run of the block whose result has ID for its place, if there is one."
  (let ((job (seq-find (lambda (job) (equal id (rlm-babel--job-token job))) rlm-babel--jobs)))
    (cond (job (pop-to-buffer (rlm-babel--job-run-buffer job)))
          ((string-prefix-p "asking-" id)
           (user-error "That question was never asked")))))

(provide 'rlm-babel-job)
;;; rlm-babel-job.el ends here
