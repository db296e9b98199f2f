;;; rlm-draw.el --- Draw the events of a run  -*- lexical-binding: t; -*-

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

;; One method for each kind of event.  It notes in the `rlm-run' what the
;; event tells, and writes into the current buffer what a person shall read.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'org)
(require 'rlm-org)
(require 'rlm-node)
(require 'rlm-run)
(require 'rlm-tally)
(require 'rlm-provenance)

(declare-function url-unhex-string "url-util" (str &optional allow-newlines))

(defvar-local rlm-draw--iterations nil
  "Alist of the newest iterations by the id of the run or child run above.")

(defun rlm-draw-question ()
  "Draw the heading of the run, before it has begun."
  (save-excursion
    (rlm-draw--root)))

(defun rlm-draw--root ()
  "Return the node of the run itself; add it if need be."
  (or (gethash "0" rlm-node-table)
      (rlm-node-add
       "0" nil (rlm-org-line (rlm-run-question rlm-run-current) 200))))

(defun rlm-draw--node (id)
  "Return the node ID, or the nearest there is above it."
  (or (gethash id rlm-node-table)
      (if (string-match "\\.[^.]*\\'" id)
          (rlm-draw--node (substring id 0 (match-beginning 0)))
        (rlm-draw--root))))

(defun rlm-draw--parent (id)
  "Return the node above the node ID."
  (rlm-draw--node (replace-regexp-in-string "\\.[^.]*\\'" "" id)))

;;;; Drawing events

(defun rlm-draw (event)
  "Draw EVENT, a plist, into the current buffer."
  (let ((run rlm-run-current))
    (unless (rlm-run-id run)
      (setf (rlm-run-id run) (plist-get event :runId)))
    (setq rlm-tally-time (or (plist-get event :time) rlm-tally-time))
    (rlm-draw-event (intern (plist-get event :kind)) event run)))

(cl-defgeneric rlm-draw-event (_kind _event _run)
  "Draw an EVENT of KIND that belongs to RUN into the current buffer.
Events of unknown kinds come from newer servers and are passed over."
  nil)

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

(defun rlm-draw-buffer-name (question)
  "Return the name of a buffer for a run that answers QUESTION."
  (format "*rlm: %s*" (rlm-org-line question 50)))

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
          (rlm-node-hide-drawer beg))))))

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
    (rlm-node-set node (rlm-draw--call-properties event))))

(defun rlm-draw--note-cached (run event)
  "Note a kept answer in RUN if EVENT is one; return non-nil then."
  (when (eq (plist-get event :cached) t)
    (cl-incf (rlm-run-cached run))))

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
    (let ((folded (rlm-node-folded-p node))
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

(cl-defmethod rlm-draw-event ((_ (eql 'semanticHit)) event run)
  "Draw, for EVENT, that the kept answer to a similar question answers RUN."
  (setf (rlm-run-similar run) (plist-get event :originalQuestion))
  (let* ((id (plist-get event :node))
         (node (rlm-node-add (concat id ".similar") (rlm-draw--node id)
                             "Kept answer to a similar question")))
    (rlm-node-set
     node `(("RLM_CACHED" . "t")
            ("RLM_ORIGINAL_RUN" . ,(plist-get event :originalRunId))
            ("RLM_ORIGINAL_TIME" . ,(format-time-string "[%F %a %T]"
                                                        (plist-get event :originalTime)))
            ("RLM_SIMILARITY" . ,(format "%.3f" (plist-get event :similarity)))))
    (rlm-node-append
     node (format "Answered on %s, similar by %.3f:\n"
                  (format-time-string "%F %R" (plist-get event :originalTime))
                  (plist-get event :similarity)))
    (rlm-node-example node (plist-get event :originalQuestion))))

(cl-defmethod rlm-draw-event ((_ (eql 'notice)) event _run)
  "Draw a notice, EVENT."
  (rlm-draw--item (plist-get event :node) (capitalize (plist-get event :level))
                  (plist-get event :text)))

(defun rlm-draw--item (id label text)
  "Draw TEXT with LABEL as an item of the node ID, or of its newest iteration."
  (let ((node (or (cdr (assoc id rlm-draw--iterations)) (rlm-draw--node id))))
    (rlm-node-end-part node)
    (let ((place (rlm-node-body node)))
      (rlm-node-append
       node (format "%s- *%s*: %s\n" (rlm-node-fresh-line place) label
                    (rlm-org-line text 1000))))))

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

(cl-defmethod rlm-draw-event ((_ (eql 'answer)) event run)
  "Draw EVENT, the answer of RUN or a piece of it."
  (let* ((begun (gethash "answer" rlm-node-table))
         (node (or begun (rlm-draw--begin-answer event)))
         (typed (eq (plist-get event :typed) t)))
    (setf (rlm-run-answer run) (concat (rlm-run-answer run) (plist-get event :text))
          (rlm-run-typed run) typed)
    (when (and typed (not begun))
      (rlm-node-write node 'prose "```json\n"))
    (rlm-node-write node 'prose (plist-get event :text))
    (unless (eq (plist-get event :more) t)
      (when typed
        (rlm-node-write node 'prose "\n```\n"))
      (rlm-node-end-part node)
      (rlm-draw--evidence-list run node (plist-get event :evidence))
      (rlm-provenance-draw run node))))

(cl-defmethod rlm-draw-event ((_ (eql 'provenance)) event run)
  "Note in RUN what the answer is drawn from, EVENT; it is drawn with the answer."
  (setf (rlm-run-provenance run) event)
  (when-let ((read (plist-get event :read)))
    (rlm-node-set (rlm-draw--root)
                  `(("RLM_READ" . ,(rlm-provenance-share
                                    read (plist-get event :characters)))))))

(defun rlm-draw--begin-answer (event)
  "Add the heading for the answer that EVENT begins."
  (rlm-draw--finish-iteration "0")
  (rlm-node-add "answer" (rlm-draw--root)
                (if (eq (plist-get event :partial) t)
                    "Answer so far"
                  "Answer")))

(defun rlm-draw--evidence-list (run answer evidence)
  "Draw EVIDENCE, a vector, below the node ANSWER, and note it in RUN."
  (setf (rlm-run-evidence run) (mapcar #'rlm-draw--evidence evidence))
  (when (rlm-run-evidence run)
    (let ((node (rlm-node-add "evidence" answer "Evidence")))
      (dolist (place (rlm-run-evidence run))
        (rlm-node-append node (rlm-draw-place-line place))))))

(defun rlm-draw--evidence (evidence)
  "Return EVIDENCE, a plist, as (FILE-OR-URI LINE PATH QUOTE)."
  (let* ((location (plist-get evidence :location))
         (uri (plist-get location :uri))
         (line (1+ (plist-get (plist-get (plist-get location :range) :start) :line))))
    (list (rlm-draw-file uri (and rlm-run-current (rlm-run-host rlm-run-current))) line
          (plist-get evidence :path) (plist-get evidence :quote))))

(defun rlm-draw-file (uri &optional host)
  "Return the name of the file that URI means on HOST, or URI itself.
HOST is nil for this machine, or a beginning for TRAMP."
  (require 'url-util)
  (cond ((string-match "\\`file://\\(?:localhost\\)?\\(/.*\\)\\'" uri)
         (concat host (decode-coding-string (url-unhex-string (match-string 1 uri)) 'utf-8)))
        (t uri)))

(defun rlm-draw-place-line (place)
  "Return the line for PLACE, a list as in `rlm-run-evidence'."
  (pcase-let* ((`(,file ,line ,path ,quote) place)
               (name (format "%s:%d" (rlm-org-line path) line)))
    (propertize
     (format "- %s %s\n"
             (if (string-prefix-p "/" file)
                 (org-link-make-string (format "file:%s::%d" file line) name)
               name)
             (rlm-org-line quote 200))
     'rlm-evidence (list file line))))

(cl-defmethod rlm-draw-event ((_ (eql 'answerDiff)) event _run)
  "Draw EVENT, how the answer differs from that of the run it reran."
  (let* ((node (rlm-node-add "diff" (rlm-draw--root) "Changes of the answer"))
         (diff (plist-get event :diff)))
    (rlm-node-set node `(("RLM_RERUN_OF" . ,(plist-get event :originalRunId))))
    (if (eq (plist-get event :same) t)
        (rlm-node-append node "It is the same as before.\n")
      (let ((block (rlm-block-open node (rlm-node-body node) "#+begin_src diff" "#+end_src"
                                   (rlm-org-block-filter rlm-line-limit))))
        (rlm-block-write node block diff)
        (rlm-block-close node block)
        (set-marker (rlm-block-after block) nil)))))

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

(cl-defmethod rlm-draw-event ((_ (eql 'void)) _event _run)
  "Draw nothing: this event does not count any more, or is lost."
  nil)

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

(defun rlm-draw--error (node problem)
  "Append PROBLEM, an error as in the protocol, to NODE.
What the node says already is not said again."
  (let ((text (string-join (seq-remove #'string-empty-p
                                       (list (plist-get problem :message)
                                             (or (plist-get problem :cure) "")))
                           " ")))
    (unless (string-search (rlm-org-prose text)
                           (buffer-substring-no-properties (rlm-node-drawer node)
                                                           (rlm-node-body node)))
      (rlm-node-paragraph node text))))

(defun rlm-draw--end-properties (run)
  "Return the properties that the end of RUN gives."
  `(("RLM_STATUS" . ,(rlm-run-status run))
    ("RLM_ITERATIONS" . ,(rlm-run-iterations run))
    ("RLM_SUBCALLS" . ,(rlm-run-subcalls run))
    ("RLM_TOKENS" . ,(rlm-run-tokens run))
    ("RLM_COST" . ,(rlm-figure-decimal (rlm-run-cost run)))
    ("RLM_SECONDS" . ,(and (rlm-run-seconds run) (format "%.1f" (rlm-run-seconds run))))))

(defun rlm-draw--finish-iteration (above)
  "End the newest iteration of the run or child run ABOVE, an id.
Put its first sentence in its heading, and fold it."
  (when-let ((node (cdr (assoc above rlm-draw--iterations))))
    (let ((summary (rlm-draw--sentence (rlm-node-summary node))))
      (rlm-draw--close-below node)
      (rlm-node-close node)
      (unless (string-empty-p summary)
        (rlm-node-retitle node (concat ": " summary)))
      (rlm-tally-show node)
      (rlm-node-fold node)
      (rlm-node-release node)
      (setq rlm-draw--iterations
            (seq-remove (lambda (open) (rlm-draw--at-or-below-p (car open) above))
                        rlm-draw--iterations)))))

(defun rlm-draw--at-or-below-p (id above)
  "Return non-nil if the node ID is the node ABOVE or below it."
  (or (equal id above) (string-prefix-p (concat above ".") id)))

(defun rlm-draw--close-below (node)
  "Close and release what is still open below NODE."
  (dolist (other (hash-table-values rlm-node-table))
    (when (eq node (rlm-node-parent other))
      (rlm-draw--close-below other)
      (rlm-node-close other)
      (rlm-node-release other))))

(defun rlm-draw--sentence (text)
  "Return the first sentence of TEXT, fit for a heading."
  (let* ((line (car (split-string text "\n" t "[ \t#*>`-]+")))
         (end (and line (string-match-p "[.!?:]\\(?: \\|\\'\\)" line))))
    (string-trim (rlm-org-line (substring (or line "") 0 end) 80) "[*:]+" "[*:]+")))

(defun rlm-draw--note-usage (run usage)
  "Note USAGE, a plist, in RUN."
  (setf (rlm-run-tokens run) (+ (plist-get usage :promptTokens)
                                (plist-get usage :completionTokens))
        (rlm-run-cost run) (plist-get usage :cost)))

(defun rlm-draw--call-properties (event)
  "Return the properties of a model call that has ended with EVENT."
  (let ((usage (plist-get event :usage)))
    `(("RLM_MODEL" . ,(plist-get event :model))
      ("RLM_TOKENS" . ,(+ (plist-get usage :promptTokens) (plist-get usage :completionTokens)))
      ("RLM_COST" . ,(rlm-figure-decimal (plist-get usage :cost)))
      ("RLM_SECONDS" . ,(format "%.1f" (plist-get event :seconds)))
      ("RLM_CACHED" . ,(and (eq (plist-get event :cached) t) "t")))))

(defun rlm-draw-interruption (reason)
  "Draw the end of a run that was interrupted, and REASON, a sentence."
  (let ((run rlm-run-current))
    (setf (rlm-run-status run) "interrupted"
          (rlm-run-doing run) ""
          (rlm-run-reason run) reason
          (rlm-run-seconds run) (rlm-run-elapsed run))
    (rlm-draw--end run nil)))

(defun rlm-draw-failure (text)
  "Draw that the question could not be asked, and why: TEXT."
  (let ((run rlm-run-current))
    (setf (rlm-run-status run) "failed"
          (rlm-run-doing run) ""
          (rlm-run-reason run) text)
    (rlm-draw-end-heading run (rlm-draw--root) nil)))

(provide 'rlm-draw)
;;; rlm-draw.el ends here
