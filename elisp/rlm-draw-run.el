;;; rlm-draw-run.el --- Draw how a run begins, changes and ends  -*- lexical-binding: t; -*-

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

;; The events of the run as a whole: its start, its context, its limits, its
;; going on after a break, and its end.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-draw)
(require 'rlm-fold)
(require 'rlm-node)
(require 'rlm-node-parts)
(require 'rlm-org)
(require 'rlm-run)

(declare-function rlm-draw-steering-forget "rlm-draw-steering" (run &optional below))

;;;; The start

(cl-defmethod rlm-draw-event ((_ (eql 'runStarted)) event run)
  "Draw the start, EVENT, of RUN."
  (setf (rlm-run-question run) (plist-get event :question)
        (rlm-run-model run) (plist-get event :rootModel)
        (rlm-run-sub-model run) (plist-get event :subModel)
        (rlm-run-project run) (plist-get event :project)
        (rlm-run-limits run) (plist-get event :limits)
        (rlm-run-started run) (plist-get event :time)
        (rlm-run-status run) "running"
        (rlm-run-doing run) "reading")
  (let* ((question (rlm-run-question run))
         (line (rlm-org-line question 200))
         (node (rlm-draw--root)))
    (rlm-draw--name-run node line)
    (rlm-node-set
     node `(("RLM_RUN" . ,(rlm-run-id run))
            ("RLM_STATUS" . "running")
            ("RLM_STARTED" . ,(format-time-string "[%F %a %T]" (rlm-run-started run)))
            ("RLM_MODEL" . ,(rlm-run-model run))
            ("RLM_SUB_MODEL" . ,(rlm-run-sub-model run))
            ("RLM_PROFILE" . ,(plist-get event :profile))
            ("RLM_PROJECT" . ,(rlm-run-project run))
            ("RLM_ISOLATION" . ,(plist-get event :isolation))
            ("RLM_SERVER" . ,(plist-get event :serverVersion))))
    (unless (string= line question)
      (rlm-node-paragraph node question))))

(defun rlm-draw--name-run (node line)
  "Let LINE be the heading of NODE, the run.
It may have been opened by its id alone."
  (goto-char (rlm-node-start node))
  (unless (looking-at-p (concat "\\* " (regexp-quote line) "$"))
    (delete-region (+ 2 (point)) (line-end-position))
    (forward-char 2)
    (insert line)
    (goto-char (point-min))
    (when (re-search-forward "^#\\+title: .*$" nil t)
      (replace-match (concat "#+title: " line) t t))
    (rename-buffer (rlm-draw-buffer-name line) t)))

(cl-defmethod rlm-draw-event ((_ (eql 'contextProgress)) event run)
  "Note in RUN how much has been read, according to EVENT."
  (setf (rlm-run-doing run)
        (format "reading: %s documents, %s"
                (rlm-figure-number (plist-get event :documents))
                (rlm-figure-size (plist-get event :bytes)))))

(cl-defmethod rlm-draw-event ((_ (eql 'contextReady)) event run)
  "Draw the context of RUN, EVENT."
  (setf (rlm-run-doing run) "starting")
  (let ((node (rlm-draw--root)))
    (rlm-node-set node `(("RLM_DOCUMENTS" . ,(plist-get event :documents))
                         ("RLM_BYTES" . ,(plist-get event :bytes))
                         ("RLM_CONTEXT" . ,(plist-get event :hash))))
    (rlm-node-paragraph
     node (format "Context: %s, %s, about %s tokens."
                  (rlm-figure-count (plist-get event :documents) "document")
                  (rlm-figure-size (plist-get event :bytes))
                  (rlm-figure-number (plist-get event :tokens))))
    (rlm-draw--left-out node event)))

(defun rlm-draw--left-out (node event)
  "Draw in NODE which files are not in the context, according to EVENT."
  (let ((counts (plist-get event :leftOutCounts))
        (files (plist-get event :leftOut)))
    (when counts
      (rlm-node-append
       node (concat "Left out: " (rlm-draw-counts counts) ".\n"))
      (unless (seq-empty-p files)
        (let ((beg (marker-position (rlm-node-body node))))
          (rlm-node-append
           node (concat ":LEFT_OUT:\n" (mapconcat #'rlm-draw--left-out-line files "") ":END:\n"))
          (rlm-fold-drawer beg))))))

(defun rlm-draw--left-out-line (file)
  "Return the line for FILE, which is not in the context."
  (format "- %s: %s\n" (rlm-org-line (plist-get file :path))
          (rlm-org-line (plist-get file :reason))))

(defun rlm-draw-counts (counts)
  "Return COUNTS, a plist of reason and number, as text."
  (mapconcat (pcase-lambda (`(,reason ,number))
               (format "%s %s" (rlm-figure-number number)
                       (rlm-org-line (string-remove-prefix ":" (symbol-name reason)))))
             (seq-partition counts 2) ", "))

;;;; While it goes on

(cl-defmethod rlm-draw-event ((_ (eql 'limitsChanged)) event run)
  "Draw which limits of RUN have changed, according to EVENT."
  (let ((before (rlm-run-limits run))
        (now (plist-get event :limits))
        changes)
    (pcase-dolist (`(,name . ,words) rlm-run-limit-names)
      (let ((old (plist-get before name))
            (new (plist-get now name)))
        (unless (equal old new)
          (push (format "%s %s, was %s" (downcase words) (rlm-run-limit-text name new)
                        (rlm-run-limit-text name old))
                changes))))
    (setf (rlm-run-limits run) now)
    (rlm-draw--item (plist-get event :node) "Limits"
                    (if changes (string-join (nreverse changes) "; ") "as they were"))))

(cl-defmethod rlm-draw-event ((_ (eql 'progress)) event run)
  "Note in RUN the totals of EVENT."
  (setf (rlm-run-iterations run) (plist-get event :iteration)
        (rlm-run-subcalls run) (plist-get event :subcallsStarted)
        (rlm-run-subcalls-done run) (plist-get event :subcallsDone))
  (rlm-draw--note-usage run (plist-get event :usage)))

(cl-defmethod rlm-draw-event ((_ (eql 'runResumed)) event run)
  "Draw EVENT, by which RUN is continued after it was cut short."
  (rlm-draw--note-models event run)
  (setf (rlm-run-status run) "running"
        (rlm-run-doing run) "replaying")
  (let ((node (or (cdr (assoc "0" rlm-draw--iterations)) (rlm-draw--root))))
    (rlm-node-end-part node)
    (rlm-node-append
     node (format "%s- /Resumed on %s./\n" (rlm-node-fresh-line (rlm-node-body node))
                  (format-time-string "%F %R" (plist-get event :time))))))

(cl-defmethod rlm-draw-event ((_ (eql 'runForked)) event run)
  "Draw EVENT, from which on RUN is no longer like its parent."
  (rlm-draw--note-models event run)
  (setf (rlm-run-status run) "running"
        (rlm-run-doing run) "replaying"
        (rlm-run-started run) (plist-get event :time))
  (rlm-draw--finish-iteration "0")
  (let ((root (rlm-draw--root)))
    (rlm-node-set
     root `(("RLM_RUN" . ,(rlm-run-id run))
            ("RLM_STARTED" . ,(format-time-string "[%F %a %T]" (rlm-run-started run)))
            ("RLM_MODEL" . ,(rlm-run-model run))
            ("RLM_SUB_MODEL" . ,(rlm-run-sub-model run))
            ("RLM_FORK_OF" . ,(plist-get event :parentRunId))))
    (let* ((id (concat (rlm-node-id root) ".fork." (number-to-string (plist-get event :seq))))
           (node (rlm-node-add id root (format "Fork at iteration %d"
                                               (plist-get event :iteration)))))
      (unless (member (plist-get event :addedNote) '(nil ""))
        (rlm-node-paragraph node (plist-get event :addedNote))))))

(defun rlm-draw--note-models (event run)
  "Note in RUN the models that EVENT names."
  (setf (rlm-run-model run) (plist-get event :rootModel)
        (rlm-run-sub-model run) (plist-get event :subModel)))

;;;; The end

(cl-defmethod rlm-draw-event ((_ (eql 'runEnded)) event run)
  "Draw the end of RUN, EVENT."
  (setf (rlm-run-status run) (plist-get event :status)
        (rlm-run-doing run) ""
        (rlm-run-reason run) (plist-get event :reason)
        (rlm-run-seconds run) (plist-get event :seconds)
        (rlm-run-iterations run) (plist-get event :iterations)
        (rlm-run-subcalls run) (plist-get event :subcalls))
  (rlm-draw--note-usage run (plist-get event :usage))
  (rlm-draw--end run event))

(defun rlm-draw--end (run event)
  "Draw the end of RUN, whose EVENT has been noted in it."
  (let ((root (rlm-draw--root)))
    (rlm-draw--finish-iteration "0")
    (maphash (lambda (_id node) (rlm-node-close node)) rlm-node-table)
    (unless (equal (rlm-run-status run) "done")
      (rlm-draw-end-heading run root (plist-get event :error)))
    (rlm-node-set root (rlm-draw--end-properties run))
    (dolist (node (hash-table-values rlm-node-table))
      (unless (member (rlm-node-id node) '("0" "answer"))
        (rlm-node-release node)))))

(defun rlm-draw-end-heading (run root problem)
  "Add a heading to ROOT for the end of RUN, and PROBLEM, an error or nil."
  (let* ((title (pcase (rlm-run-status run)
                  ("limit" "Stopped by a limit")
                  ("cancelled" "Cancelled")
                  ("interrupted" "Interrupted")
                  (_ "Failed")))
         (node (rlm-node-add "end" root title)))
    (unless (equal (rlm-run-reason run) (concat title "."))
      (rlm-node-paragraph node (rlm-run-reason run)))
    (when problem
      (rlm-draw--error node problem))))

(defun rlm-draw--end-properties (run)
  "Return the properties that the end of RUN gives."
  `(("RLM_STATUS" . ,(rlm-run-status run))
    ("RLM_ITERATIONS" . ,(rlm-run-iterations run))
    ("RLM_SUBCALLS" . ,(rlm-run-subcalls run))
    ("RLM_TOKENS" . ,(rlm-run-tokens run))
    ("RLM_COST" . ,(rlm-figure-decimal (rlm-run-cost run)))
    ("RLM_SECONDS" . ,(and (rlm-run-seconds run) (format "%.1f" (rlm-run-seconds run))))))

(defun rlm-draw-interruption (reason)
  "Draw the end of a run that was interrupted, and REASON, a sentence."
  (let ((run rlm-run-current))
    (setf (rlm-run-status run) "interrupted"
          (rlm-run-doing run) ""
          (rlm-run-reason run) reason
          (rlm-run-seconds run) (rlm-run-elapsed run)
          (rlm-run-paused run) nil)
    (rlm-draw-steering-forget run)
    (rlm-draw--end run nil)))

(defun rlm-draw-failure (text)
  "Draw that the question could not be asked, and why: TEXT."
  (let ((run rlm-run-current))
    (setf (rlm-run-status run) "failed"
          (rlm-run-doing run) ""
          (rlm-run-reason run) text)
    (rlm-draw-end-heading run (rlm-draw--root) nil)))

(provide 'rlm-draw-run)
;;; rlm-draw-run.el ends here
