;;; rlm-draw-calls.el --- Draw iterations, their code, and the calls it makes  -*- lexical-binding: t; -*-

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

;; The events of the model's replies, of the code in them, and of sub-calls
;; and child runs.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-draw)
(require 'rlm-fold)
(require 'rlm-node)
(require 'rlm-node-blocks)
(require 'rlm-node-parts)
(require 'rlm-org)
(require 'rlm-provenance)
(require 'rlm-run)
(require 'rlm-tally)

;;;; Replies

(cl-defmethod rlm-draw-event ((_ (eql 'iterationStarted)) event run)
  "Draw the heading of the iteration of RUN that EVENT begins."
  (let* ((id (plist-get event :node))
         (parent (rlm-draw--parent id))
         (above (rlm-node-id parent)))
    (rlm-draw--finish-iteration above)
    (setf (rlm-run-doing run) "asking the model")
    (when (equal above "0")
      (setf (rlm-run-iterations run) (plist-get event :iteration)))
    (let ((node (rlm-node-add id parent (format (if (eq (plist-get event :direct) t)
                                                    "Iteration %d, direct"
                                                  "Iteration %d")
                                                (plist-get event :iteration)))))
      (setf (rlm-node-begun node) rlm-tally-time)
      (push (cons above node) rlm-draw--iterations))))

(cl-defmethod rlm-draw-event ((_ (eql 'replyDelta)) event run)
  "Draw EVENT, more of the reply in RUN."
  (setf (rlm-run-doing run) "the model writes")
  (rlm-node-write (rlm-draw--node (plist-get event :node))
                  (intern (plist-get event :part))
                  (plist-get event :text)))

(cl-defmethod rlm-draw-event ((_ (eql 'replyDone)) event run)
  "Draw the end of a reply in RUN, EVENT."
  (let ((node (rlm-draw--node (plist-get event :node))))
    (rlm-node-end-part node)
    (rlm-node-assign-cells node (plist-get event :cells))
    (when (rlm-draw--note-cached run event)
      (rlm-node-retitle node " (cached)"))
    (rlm-tally-add node (plist-get event :usage))
    (let ((properties (rlm-draw--call-properties event)))
      (if (= (rlm-node-drawer node) (rlm-node-body node))
          (rlm-node-set node properties) ; what comes next begins below the drawer
        (rlm-node-note node properties)))))

(defun rlm-draw--note-cached (run event)
  "Note a kept answer in RUN if EVENT is one; return non-nil then."
  (when (eq (plist-get event :cached) t)
    (cl-incf (rlm-run-cached run))))

(defun rlm-draw--call-properties (event)
  "Return the properties of a model call that has ended with EVENT."
  (let ((usage (plist-get event :usage)))
    `(("RLM_MODEL" . ,(plist-get event :model))
      ("RLM_TOKENS" . ,(+ (plist-get usage :promptTokens) (plist-get usage :completionTokens)))
      ("RLM_COST" . ,(rlm-figure-decimal (plist-get usage :cost)))
      ("RLM_SECONDS" . ,(format "%.1f" (plist-get event :seconds)))
      ("RLM_CACHED" . ,(and (eq (plist-get event :cached) t) "t")))))

;;;; Code

(cl-defmethod rlm-draw-event ((_ (eql 'cellStarted)) event run)
  "Note in RUN the start of a cell, EVENT; draw its code unless it is there."
  (setf (rlm-run-doing run) "code runs")
  (let ((node (rlm-draw--node (plist-get event :node)))
        (number (plist-get event :cell)))
    (unless (alist-get number (rlm-node-cells node))
      (rlm-node-end-part node)
      (rlm-node-write node 'code (plist-get event :code))
      (rlm-node-end-part node)
      (setf (rlm-node-blocks node) nil)
      (rlm-node-cell node number))))

(cl-defmethod rlm-draw-event ((_ (eql 'output)) event _run)
  "Draw EVENT, more of what a cell prints."
  (let* ((node (rlm-draw--node (plist-get event :node)))
         (cell (rlm-node-cell node (plist-get event :cell))))
    (rlm-cell-print node cell (plist-get event :stream) (plist-get event :text))))

(cl-defmethod rlm-draw-event ((_ (eql 'cellDone)) event _run)
  "Draw the end of a cell, EVENT."
  (let* ((node (rlm-draw--node (plist-get event :node)))
         (cell (rlm-node-cell node (plist-get event :cell)))
         (text (rlm-draw--cell-line event)))
    (rlm-cell-close node cell (plist-get event :outputCharacters))
    (let ((place (rlm-cell-place cell)))
      (rlm-node-insert node place (concat (rlm-node-fresh-line place) text)))))

(defun rlm-draw--cell-line (event)
  "Return the line for the end of a cell, EVENT."
  (let ((status (plist-get event :status))
        (problem (rlm-org-line (plist-get event :error) 300))
        (time (rlm-figure-seconds (plist-get event :seconds))))
    (pcase status
      ("ok" (format (if (eq (plist-get event :early) t)
                        "/Ran %s, begun before the reply had ended./\n"
                      "/Ran %s./\n")
                    time))
      ("rejected" (format "*Rejected*: %s\n" (if (string-empty-p problem) "no reason" problem)))
      (_
       (format "*Code: %s*, after %s.%s%s\n" status time
              (if (string-empty-p problem) "" (concat " " problem))
              (if (eq (plist-get event :kept) :json-false)
                  " The variables are lost."
                ""))))))

;;;; Sub-calls

(cl-defmethod rlm-draw-event ((_ (eql 'subcallStarted)) event run)
  "Draw the sub-call of RUN that EVENT begins."
  (cl-incf (rlm-run-subcalls run))
  (setf (rlm-run-doing run) "sub-calls")
  (let* ((id (plist-get event :node))
         (tool (rlm-draw--tool event))
         (node (rlm-node-add id (rlm-draw--parent id)
                             (if tool
                                 (format "Tool %s, call %d" tool (plist-get event :subcall))
                               (format "Sub-call %d" (plist-get event :subcall))))))
    (push (if tool (cons "RLM_TOOL" tool) (cons "RLM_MODEL" (rlm-draw--model event)))
          (rlm-node-properties node))
    (rlm-node-append
     node (format "%s, %s%s:\n"
                  (if tool "Arguments" "Prompt")
                  (rlm-figure-count (plist-get event :promptCharacters) "character")
                  (rlm-provenance-held (plist-get event :holds))))
    (rlm-node-example node (plist-get event :prompt))
    (rlm-node-fold node)))

(defun rlm-draw--model (event)
  "Return the model of EVENT as a line; the code of a run may name any."
  (rlm-org-line (plist-get event :model) 200))

(defun rlm-draw--tool (event)
  "Return the name of the tool in EVENT, the begin of a sub-call; nil for a model."
  (let ((tool (plist-get event :tool)))
    (unless (member tool '(nil ""))
      (rlm-org-line tool 64))))

(cl-defmethod rlm-draw-event ((_ (eql 'subcallDelta)) event _run)
  "Draw EVENT, more of a sub-call's answer."
  (rlm-node-write (rlm-draw--node (plist-get event :node))
                  'prose (plist-get event :text)))

(cl-defmethod rlm-draw-event ((_ (eql 'subcallDone)) event run)
  "Draw the end of a sub-call of RUN, EVENT."
  (cl-incf (rlm-run-subcalls-done run))
  (rlm-draw--note-cached run event)
  (when-let* ((node (gethash (plist-get event :node) rlm-node-table)))
    (let* ((folded (rlm-node-folded-p node))
           (rlm-node-fold-anew folded)
           (status (plist-get event :status))
           (problem (plist-get event :error)))
      (rlm-node-write node 'prose (plist-get event :answer))
      (rlm-node-close node)
      (when problem
        (rlm-draw--error node problem))
      (rlm-tally-add node (plist-get event :usage))
      (rlm-node-set node (cons (cons "RLM_STATUS" status)
                               (rlm-draw--call-properties event)))
      (rlm-node-retitle
       node (format (cond ((not (equal status "ok")) (format " (%s, %%s)" status))
                          ((eq (plist-get event :cached) t) " (cached, %s)")
                          ((eq (plist-get event :hedged) t) " (asked twice, %s)")
                          (t " (%s)"))
                    (rlm-figure-seconds (plist-get event :seconds))))
      (when folded
        (rlm-node-fold node))
      (rlm-node-release node))))

;;;; Child runs

(cl-defmethod rlm-draw-event ((_ (eql 'childStarted)) event run)
  "Draw the child run of RUN that EVENT begins."
  (setf (rlm-run-doing run) "child runs")
  (let* ((id (plist-get event :node))
         (node (rlm-node-add id (rlm-draw--parent id)
                             (format "Child run %d" (plist-get event :subcall)))))
    (push (cons "RLM_DEPTH" (plist-get event :depth)) (rlm-node-properties node))
    (push (cons "RLM_MODEL" (rlm-draw--model event)) (rlm-node-properties node))
    (rlm-node-append
     node (format "Question, about %s in %s:\n"
                  (rlm-figure-count (plist-get event :characters) "character")
                  (rlm-figure-count (plist-get event :documents) "document")))
    (rlm-node-example node (plist-get event :question))))

(cl-defmethod rlm-draw-event ((_ (eql 'childDelta)) event _run)
  "Draw EVENT, more of a child run's answer."
  (let ((id (plist-get event :node)))
    (rlm-draw--finish-iteration id)
    (rlm-draw--child-answer (rlm-draw--node id) (plist-get event :text))))

(defun rlm-draw--child-answer (node text)
  "Append TEXT to the answer of the child run NODE."
  (unless (eq (rlm-node-part node) 'answer)
    (rlm-node-end-part node)
    (rlm-node-append node "Answer of the child run:\n")
    (setf (rlm-node-part node) 'answer
          (rlm-node-block node)
          (rlm-block-open node (rlm-node-body node) "#+begin_example" "#+end_example"
                          (rlm-org-block-filter rlm-line-limit))))
  (rlm-block-write node (rlm-node-block node) text))

(cl-defmethod rlm-draw-event ((_ (eql 'childDone)) event _run)
  "Draw the end of a child run, EVENT."
  (let ((id (plist-get event :node)))
    (rlm-draw--finish-iteration id)
    (when-let* ((node (gethash id rlm-node-table)))
      (let ((problem (plist-get event :error))
            (status (plist-get event :status)))
        (unless (string-empty-p (plist-get event :answer))
          (rlm-draw--child-answer node (plist-get event :answer)))
        (rlm-node-end-part node)
        (when problem
          (rlm-draw--error node problem))
        (rlm-node-set node (append (list (cons "RLM_STATUS" status)
                                         (cons "RLM_ITERATIONS" (plist-get event :iterations)))
                                   (rlm-draw--call-properties event)))
        (rlm-node-retitle node (format " (%s, %s)" status
                                       (rlm-figure-seconds (plist-get event :seconds))))
        (rlm-node-fold node)
        (rlm-node-release node)))))

(provide 'rlm-draw-calls)
;;; rlm-draw-calls.el ends here
