;;; rlm-trajectory.el --- A run as an Org buffer  -*- lexical-binding: t; -*-

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

;; The events of a run become an Org buffer that can be read while it
;; grows: a heading for the run, one for each iteration, one for each
;; sub-call, and one for the answer with links to its evidence.
;;
;; `rlm-trajectory-create' makes the buffer, `rlm-trajectory-push' gives it
;; an event.  Events are collected and drawn by one timer, a bounded time
;; at once.  Each open node has markers of its own, so that sub-calls that
;; run at the same time can't get into each other's text.  The buffer is
;; valid Org at every moment: blocks are closed when they are opened, and
;; their text goes in before their last line.
;;
;; This file knows no process and no connection.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'org)
(require 'org-element)
(require 'rlm-org)

(declare-function org-fold-subtree "org-fold" (flag))
(declare-function org-fold-show-subtree "org-fold" ())
(declare-function org-fold-show-context "org-fold" (&optional key))
(declare-function url-unhex-string "url-util" (str &optional allow-newlines))
(declare-function rlm-cancel "rlm" (run &optional cell-only))
(declare-function rlm-redraw "rlm" ())

;;;; Customization

(defcustom rlm-transcript-directory (locate-user-emacs-file "rlm/transcripts/")
  "Directory in which the transcript of each run is saved when it ends.
Nil means not to save any."
  :group 'rlm
  :type '(choice (const :tag "Save none" nil) directory)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-after-run-functions nil
  "Functions called when a run has ended, in its buffer.
Each gets the run, an `rlm-run': see `rlm-run-status', `rlm-run-answer',
`rlm-run-evidence', `rlm-run-transcript' and the like."
  :group 'rlm
  :type 'hook
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-flush-seconds 0.1
  "Seconds for which events are collected before they are drawn."
  :group 'rlm
  :type 'number
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-output-limit 20000
  "Most characters shown of what one piece of code prints.
Of more than that, the beginning and the end are shown.  The run's log has
all that the server sent."
  :group 'rlm
  :type 'natnum
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-line-limit 2000
  "Most characters shown of one line that code has printed.
Very long lines make Emacs slow."
  :group 'rlm
  :type 'natnum
  :package-version '(rlm . "0.1.0"))

;;;; Faces

(defface rlm-header
  '((t :inherit mode-line-emphasis))
  "Face of a run's status in the header line."
  :group 'rlm)

(defface rlm-header-good
  '((t :inherit success))
  "Face of the status of a run that has been answered."
  :group 'rlm)

(defface rlm-header-bad
  '((t :inherit error))
  "Face of the status of a run that has failed or was interrupted."
  :group 'rlm)

(defface rlm-header-warning
  '((t :inherit warning))
  "Face of the status of a run that a limit or the user has ended."
  :group 'rlm)

;;;; The run

(cl-defstruct (rlm-run (:constructor rlm-run--make) (:copier nil))
  "One run, as far as its events have told."
  (id nil :documentation "Its id, or nil before the server has given one.")
  (question "" :documentation "The question.")
  (status "asking" :documentation "The protocol's status, or \"asking\" before the run.")
  (doing "" :documentation "What is being done, where the status is \"running\".")
  model sub-model project
  (started nil :documentation "Time it began, in seconds since the epoch.")
  (seconds nil :documentation "How long it took, once it has ended.")
  (iterations 0) (subcalls 0) (subcalls-done 0)
  (tokens 0 :documentation "Prompt and completion tokens of all calls.")
  (cost 0.0 :documentation "US dollars; nil where a price is unknown.")
  (reason nil :documentation "Why it has ended, in a sentence.")
  (answer nil :documentation "The answer as the model gave it, or nil.")
  (evidence nil :documentation "List of (FILE-OR-URI LINE PATH QUOTE).")
  (transcript nil :documentation "File name of the saved transcript, or nil.")
  (log nil :documentation "File name of the log."))

(defvar-local rlm-trajectory--run nil
  "The run that this buffer shows.")

(defun rlm-trajectory-run (&optional buffer)
  "Return the run that BUFFER shows, or nil."
  (buffer-local-value 'rlm-trajectory--run (or buffer (current-buffer))))

(defun rlm-run-live-p (run)
  "Return non-nil if RUN has not ended, as far as is known."
  (and (member (rlm-run-status run) '("asking" "running")) t))

;;;; Nodes and the places where text goes

(cl-defstruct (rlm-trajectory--node (:copier nil))
  "A heading and what stands below it.
Insertion does not move BODY and END, `rlm-trajectory--insert' does, so
that neighbours which end at the same place do not mingle."
  id level parent
  start                       ; marker at the heading, moved by insertion
  drawer                      ; marker after the heading's line
  (drawer-length 0)
  body                        ; marker at the end of the node's own text
  end                         ; marker at the end of the subtree
  properties                  ; alist, name and value
  (summary "")                ; start of its prose
  part                        ; kind of text being written, or nil
  filter                      ; filter of that text
  block                       ; block that is open
  blocks                      ; code blocks of this reply, newest first
  cells)                      ; alist, number and `rlm-trajectory--cell'

(cl-defstruct (rlm-trajectory--block (:copier nil))
  "A block whose text is being written."
  at                          ; marker before its last line
  after                       ; marker after its last line
  filter)

(cl-defstruct (rlm-trajectory--cell (:copier nil))
  "A piece of code that runs, and what it prints."
  place                       ; marker where its results go
  block                       ; block of the results, or nil
  (stream nil)
  (shown 0) (received 0) (tail ""))

(defvar-local rlm-trajectory--nodes nil
  "Hash table of this buffer's nodes by id.")

(defvar-local rlm-trajectory--iteration nil
  "The node of the newest iteration.")

(defun rlm-trajectory--insert (node marker text)
  "Insert TEXT at MARKER, which is in NODE, and move MARKER behind it."
  (unless (string-empty-p text)
    (goto-char marker)
    (insert text)
    (set-marker marker (point))
    (rlm-trajectory--reach (rlm-trajectory--node-body node))
    (rlm-trajectory--extend node)))

(defun rlm-trajectory--extend (node)
  "Let NODE and all that holds it reach to point at least."
  (while node
    (rlm-trajectory--reach (rlm-trajectory--node-end node))
    (setq node (rlm-trajectory--node-parent node))))

(defun rlm-trajectory--reach (marker)
  "Move MARKER to point if it is before it."
  (when (< marker (point))
    (set-marker marker (point))))

(defun rlm-trajectory--append (node text)
  "Append TEXT to NODE's own text."
  (rlm-trajectory--insert node (rlm-trajectory--node-body node) text))

(defun rlm-trajectory--fresh-line (marker)
  "Return what has to be inserted at MARKER for a blank line before it."
  (save-excursion
    (goto-char marker)
    (cond ((not (bolp)) "\n\n")
          ((progn (forward-line -1) (looking-at-p "[ \t]*$\\|:END:$")) "")
          (t "\n"))))

(defun rlm-trajectory--add (id parent title &optional properties)
  "Add a node ID with a heading TITLE and PROPERTIES at the end of PARENT.
PARENT is nil for the run itself."
  (let* ((level (if parent (1+ (rlm-trajectory--node-level parent)) 1))
         (beg (if parent (marker-position (rlm-trajectory--node-end parent)) (point-max))))
    (goto-char beg)
    (insert (make-string level ?*) " " title "\n")
    (let ((node (make-rlm-trajectory--node
                 :id id :level level :parent parent :start (copy-marker beg t)
                 :drawer (copy-marker (point)) :body (copy-marker (point))
                 :end (copy-marker (point)))))
      (rlm-trajectory--extend parent)
      (puthash id node rlm-trajectory--nodes)
      (when properties
        (rlm-trajectory--set node properties))
      node)))

(defun rlm-trajectory--set (node properties)
  "Set PROPERTIES, an alist, of NODE in its drawer; nil values are left out."
  (let ((all (rlm-trajectory--node-properties node))
        (drawer (rlm-trajectory--node-drawer node)))
    (pcase-dolist (`(,name . ,value) properties)
      (when value
        (setf (alist-get name all nil nil #'equal) (rlm-org-line (format "%s" value) 500))))
    (setf (rlm-trajectory--node-properties node) all)
    (delete-region drawer (+ drawer (rlm-trajectory--node-drawer-length node)))
    (let ((text (concat ":PROPERTIES:\n"
                        (mapconcat (lambda (entry) (format ":%s: %s\n" (car entry) (cdr entry)))
                                   (reverse all) "")
                        ":END:\n"))
          (beg (marker-position drawer)))
      (setf (rlm-trajectory--node-drawer-length node) (length text))
      (rlm-trajectory--insert node drawer text)
      (set-marker drawer beg))))

(defun rlm-trajectory--release (node)
  "Let go of NODE, to which nothing will be added, and of its markers."
  (dolist (marker (list (rlm-trajectory--node-start node) (rlm-trajectory--node-drawer node)
                        (rlm-trajectory--node-body node) (rlm-trajectory--node-end node)))
    (set-marker marker nil))
  (remhash (rlm-trajectory--node-id node) rlm-trajectory--nodes))

(defun rlm-trajectory--find (id)
  "Return the node ID, or the nearest there is above it."
  (or (gethash id rlm-trajectory--nodes)
      (if (string-match "\\.[^.]*\\'" id)
          (rlm-trajectory--find (substring id 0 (match-beginning 0)))
        (rlm-trajectory--root))))

(defun rlm-trajectory--root ()
  "Return the node of the run itself; add it if need be."
  (or (gethash "0" rlm-trajectory--nodes)
      (rlm-trajectory--add
       "0" nil (rlm-org-line (rlm-run-question rlm-trajectory--run) 200))))

(defun rlm-trajectory--parent (id)
  "Return the node that holds the node ID."
  (rlm-trajectory--find (replace-regexp-in-string "\\.[^.]*\\'" "" id)))

;;;; Blocks

(defun rlm-trajectory--open-block (node place begin end filter)
  "Open a block between the lines BEGIN and END at the marker PLACE in NODE.
Text goes into it through FILTER."
  (rlm-trajectory--insert node place
                          (concat (rlm-trajectory--fresh-line place) begin "\n\n" end "\n"))
  (let* ((after (copy-marker place))
         (at (copy-marker (- after (length end) 2))))
    (make-rlm-trajectory--block :at at :after after :filter filter)))

(defun rlm-trajectory--write-block (node block text)
  "Write TEXT into BLOCK of NODE."
  (rlm-trajectory--insert node (rlm-trajectory--block-at block)
                          (rlm-org-feed (rlm-trajectory--block-filter block) text)))

(defun rlm-trajectory--close-block (node block)
  "Close BLOCK of NODE; the place after it stays known."
  (let ((at (rlm-trajectory--block-at block)))
    (rlm-trajectory--insert node at (rlm-org-finish (rlm-trajectory--block-filter block)))
    (delete-region at (1+ at))
    (set-marker at nil)))

(defun rlm-trajectory--example (node text)
  "Append TEXT to NODE as an example block."
  (let ((block (rlm-trajectory--open-block
                node (rlm-trajectory--node-body node) "#+begin_example" "#+end_example"
                (rlm-org-block-filter rlm-line-limit))))
    (rlm-trajectory--write-block node block text)
    (rlm-trajectory--close-block node block)
    (set-marker (rlm-trajectory--block-after block) nil)))

;;;; Parts of a reply

(defun rlm-trajectory--write (node part text)
  "Append TEXT to NODE as PART: `prose', `code' or `reasoning'."
  (unless (eq part (rlm-trajectory--node-part node))
    (rlm-trajectory--end-part node)
    (setq text (string-trim-left text "\n+"))
    (unless (string-empty-p text)
      (rlm-trajectory--begin-part node part)))
  (cond ((null (rlm-trajectory--node-part node)))
        ((eq part 'prose)
         (rlm-trajectory--note-summary node text)
         (rlm-trajectory--append node (rlm-org-feed (rlm-trajectory--node-filter node) text)))
        (t (rlm-trajectory--write-block node (rlm-trajectory--node-block node) text))))

(defun rlm-trajectory--note-summary (node text)
  "Keep the start of NODE's prose, to which TEXT belongs."
  (let ((summary (rlm-trajectory--node-summary node)))
    (when (< (length summary) 300)
      (setf (rlm-trajectory--node-summary node)
            (concat summary (substring text 0 (min 300 (length text))))))))

(defun rlm-trajectory--retitle (node text)
  "Append TEXT to the heading of NODE."
  (save-excursion
    (goto-char (rlm-trajectory--node-start node))
    (end-of-line)
    (insert text)))

(defun rlm-trajectory--begin-part (node part)
  "Begin PART of NODE."
  (let ((place (rlm-trajectory--node-body node)))
    (setf (rlm-trajectory--node-part node) part)
    (pcase part
      ('prose
       (rlm-trajectory--append node (rlm-trajectory--fresh-line place))
       (setf (rlm-trajectory--node-filter node) (rlm-org-prose-filter)))
      ('code
       (setf (rlm-trajectory--node-block node)
             (rlm-trajectory--open-block node place "#+begin_src python" "#+end_src"
                                         (rlm-org-block-filter)))
       (push (rlm-trajectory--node-block node) (rlm-trajectory--node-blocks node)))
      ('reasoning
       (setf (rlm-trajectory--node-block node)
             (rlm-trajectory--open-block node place ":REASONING:" ":END:"
                                         (rlm-org-prose-filter)))))))

(defun rlm-trajectory--end-part (node)
  "End the part of NODE that is being written, if any."
  (pcase (rlm-trajectory--node-part node)
    ('nil)
    ('prose (rlm-trajectory--append node (rlm-org-finish (rlm-trajectory--node-filter node))))
    (_ (rlm-trajectory--close-block node (rlm-trajectory--node-block node))))
  (setf (rlm-trajectory--node-part node) nil
        (rlm-trajectory--node-filter node) nil
        (rlm-trajectory--node-block node) nil))

(defun rlm-trajectory--paragraph (node text)
  "Append TEXT, which may be Markdown, to NODE as paragraphs of their own."
  (rlm-trajectory--end-part node)
  (rlm-trajectory--write node 'prose text)
  (rlm-trajectory--end-part node))

;;;; Cells

(defun rlm-trajectory--cell (node number)
  "Return the cell NUMBER of NODE; its results go to the end if it is unknown."
  (or (alist-get number (rlm-trajectory--node-cells node))
      (progn
        (rlm-trajectory--append node "\n")
        (setf (alist-get number (rlm-trajectory--node-cells node))
              (make-rlm-trajectory--cell
               :place (copy-marker (rlm-trajectory--node-body node)))))))

(defun rlm-trajectory--assign-cells (node count)
  "Let the last COUNT code blocks of NODE's reply be its cells, in order.
Where the reply was broken off and asked for again, earlier ones are void.
A reply with fewer blocks than cells has none assigned."
  (let ((blocks (rlm-trajectory--node-blocks node)))
    (when (>= (length blocks) count)
      (let ((number count))
        (dolist (block (seq-take blocks count))
          (setf (alist-get number (rlm-trajectory--node-cells node))
                (make-rlm-trajectory--cell :place (rlm-trajectory--block-after block)))
          (cl-decf number))))
    (setf (rlm-trajectory--node-blocks node) nil)))

(defun rlm-trajectory--print (node cell stream text)
  "Show TEXT, which CELL of NODE has printed on STREAM."
  (unless (rlm-trajectory--cell-block cell)
    (setf (rlm-trajectory--cell-block cell)
          (rlm-trajectory--open-block node (rlm-trajectory--cell-place cell)
                                      "#+RESULTS:\n#+begin_example" "#+end_example"
                                      (rlm-org-block-filter rlm-line-limit))))
  (cl-incf (rlm-trajectory--cell-received cell) (length text))
  (unless (equal stream (rlm-trajectory--cell-stream cell))
    (setf (rlm-trajectory--cell-stream cell) stream)
    (setq text (concat (rlm-trajectory--line-break cell) text)))
  (let* ((room (max 0 (- rlm-output-limit (rlm-trajectory--cell-shown cell))))
         (now (substring text 0 (min room (length text))))
         (rest (substring text (length now))))
    (cl-incf (rlm-trajectory--cell-shown cell) (length now))
    (rlm-trajectory--write-block node (rlm-trajectory--cell-block cell) now)
    (unless (string-empty-p rest)
      (rlm-trajectory--keep-tail cell rest))))

(defun rlm-trajectory--line-break (cell)
  "Return a newline if the results of CELL end within a line."
  (let ((filter (rlm-trajectory--block-filter (rlm-trajectory--cell-block cell))))
    (if (and (rlm-org-filter-bol filter) (string-empty-p (rlm-org-filter-held filter)))
        ""
      "\n")))

(defun rlm-trajectory--keep-tail (cell text)
  "Keep the end of what CELL has printed, to which TEXT belongs."
  (let ((tail (concat (rlm-trajectory--cell-tail cell) text))
        (most (/ rlm-output-limit 4)))
    (setf (rlm-trajectory--cell-tail cell)
          (substring tail (max 0 (- (length tail) most))))))

(defun rlm-trajectory--close-cell (node cell &optional total)
  "End the results of CELL of NODE, which has printed TOTAL characters."
  (when-let ((block (rlm-trajectory--cell-block cell)))
    (let* ((tail (rlm-trajectory--cell-tail cell))
           (total (max (or total 0) (rlm-trajectory--cell-received cell)))
           (hidden (- total (rlm-trajectory--cell-shown cell) (length tail))))
      (when (> hidden 0)
        (setq tail (format "\n[... %s of %s characters left out ...]\n%s"
                           (rlm-trajectory--number hidden) (rlm-trajectory--number total) tail)))
      (rlm-trajectory--write-block node block tail)
      (rlm-trajectory--close-block node block)
      (set-marker (rlm-trajectory--cell-place cell) (rlm-trajectory--block-after block))
      (setf (rlm-trajectory--cell-block cell) nil))))

(defun rlm-trajectory--close (node)
  "End everything that is being written in NODE."
  (rlm-trajectory--end-part node)
  (pcase-dolist (`(,_ . ,cell) (rlm-trajectory--node-cells node))
    (rlm-trajectory--close-cell node cell)
    (set-marker (rlm-trajectory--cell-place cell) nil))
  (setf (rlm-trajectory--node-cells node) nil))

;;;; Drawing events

(defun rlm-trajectory--draw (event)
  "Draw EVENT, a plist, into the current buffer."
  (let ((run rlm-trajectory--run))
    (unless (rlm-run-id run)
      (setf (rlm-run-id run) (plist-get event :runId)))
    (rlm-trajectory-event (intern (plist-get event :kind)) event run)))

(cl-defgeneric rlm-trajectory-event (_kind _event _run)
  "Draw an EVENT of KIND that belongs to RUN into the current buffer.
Events of unknown kinds come from newer servers and are passed over."
  nil)

(cl-defmethod rlm-trajectory-event ((_ (eql 'runStarted)) event run)
  "Draw the start, EVENT, of RUN."
  (setf (rlm-run-question run) (plist-get event :question)
        (rlm-run-model run) (plist-get event :rootModel)
        (rlm-run-sub-model run) (plist-get event :subModel)
        (rlm-run-project run) (plist-get event :project)
        (rlm-run-started run) (plist-get event :time)
        (rlm-run-status run) "running"
        (rlm-run-doing run) "reading")
  (let* ((question (rlm-run-question run))
         (line (rlm-org-line question 200))
         (node (rlm-trajectory--root)))
    (rlm-trajectory--set
     node `(("RLM_RUN" . ,(rlm-run-id run))
            ("RLM_STATUS" . "running")
            ("RLM_STARTED" . ,(format-time-string "[%F %a %T]" (rlm-run-started run)))
            ("RLM_MODEL" . ,(rlm-run-model run))
            ("RLM_SUB_MODEL" . ,(rlm-run-sub-model run))
            ("RLM_PROJECT" . ,(rlm-run-project run))
            ("RLM_ISOLATION" . ,(plist-get event :isolation))
            ("RLM_SERVER" . ,(plist-get event :serverVersion))))
    (unless (string= line question)
      (rlm-trajectory--paragraph node question))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'contextProgress)) event run)
  "Note in RUN how much has been read, as EVENT says."
  (setf (rlm-run-doing run)
        (format "reading: %s documents, %s"
                (rlm-trajectory--number (plist-get event :documents))
                (rlm-trajectory--size (plist-get event :bytes)))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'contextReady)) event run)
  "Draw what RUN reads, as EVENT says."
  (setf (rlm-run-doing run) "starting")
  (let ((node (rlm-trajectory--root)))
    (rlm-trajectory--set node `(("RLM_DOCUMENTS" . ,(plist-get event :documents))
                                ("RLM_BYTES" . ,(plist-get event :bytes))
                                ("RLM_CONTEXT" . ,(plist-get event :hash))))
    (rlm-trajectory--paragraph
     node (format "Context: %s, %s, about %s tokens."
                  (rlm-trajectory--count (plist-get event :documents) "document")
                  (rlm-trajectory--size (plist-get event :bytes))
                  (rlm-trajectory--number (plist-get event :tokens))))
    (rlm-trajectory--draw-left-out node event)))

(defun rlm-trajectory--draw-left-out (node event)
  "Draw in NODE which files EVENT says are not in the context."
  (let ((counts (plist-get event :leftOutCounts))
        (files (plist-get event :leftOut)))
    (when counts
      (rlm-trajectory--append
       node (concat "Left out: " (rlm-trajectory-counts counts) ".\n"))
      (unless (seq-empty-p files)
        (rlm-trajectory--append
         node (concat ":LEFT_OUT:\n"
                      (mapconcat (lambda (file)
                                   (format "- %s: %s\n" (rlm-org-line (plist-get file :path))
                                           (rlm-org-line (plist-get file :reason))))
                                 files "")
                      ":END:\n"))))))

(defun rlm-trajectory-counts (counts)
  "Return COUNTS, a plist of reason and number, as text."
  (mapconcat (pcase-lambda (`(,reason ,number))
               (format "%s %s" (rlm-trajectory--number number)
                       (rlm-org-line (string-remove-prefix ":" (symbol-name reason)))))
             (seq-partition counts 2) ", "))

(cl-defmethod rlm-trajectory-event ((_ (eql 'iterationStarted)) event run)
  "Draw the heading of the iteration of RUN that EVENT begins."
  (rlm-trajectory--finish-iteration)
  (let ((id (plist-get event :node)))
    (setf (rlm-run-iterations run) (plist-get event :iteration)
          (rlm-run-doing run) "asking the model"
          rlm-trajectory--iteration
          (rlm-trajectory--add id (rlm-trajectory--parent id)
                               (format "Iteration %d" (plist-get event :iteration))))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'replyDelta)) event run)
  "Draw EVENT, more of the reply in RUN."
  (setf (rlm-run-doing run) "the model writes")
  (rlm-trajectory--write (rlm-trajectory--find (plist-get event :node))
                         (intern (plist-get event :part))
                         (plist-get event :text)))

(cl-defmethod rlm-trajectory-event ((_ (eql 'replyDone)) event _run)
  "Draw the end of a reply, EVENT."
  (let ((node (rlm-trajectory--find (plist-get event :node))))
    (rlm-trajectory--end-part node)
    (rlm-trajectory--assign-cells node (plist-get event :cells))
    (rlm-trajectory--set node (rlm-trajectory--call-properties event))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'cellStarted)) event run)
  "Note in RUN that a cell runs, EVENT; draw its code where that isn't there yet."
  (setf (rlm-run-doing run) "code runs")
  (let ((node (rlm-trajectory--find (plist-get event :node)))
        (number (plist-get event :cell)))
    (unless (alist-get number (rlm-trajectory--node-cells node))
      (rlm-trajectory--end-part node)
      (rlm-trajectory--write node 'code (plist-get event :code))
      (rlm-trajectory--end-part node)
      (setf (rlm-trajectory--node-blocks node) nil)
      (rlm-trajectory--cell node number))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'output)) event _run)
  "Draw EVENT, more of what a cell prints."
  (let* ((node (rlm-trajectory--find (plist-get event :node)))
         (cell (rlm-trajectory--cell node (plist-get event :cell))))
    (rlm-trajectory--print node cell (plist-get event :stream) (plist-get event :text))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'cellDone)) event _run)
  "Draw the end of a cell, EVENT."
  (let* ((node (rlm-trajectory--find (plist-get event :node)))
         (cell (rlm-trajectory--cell node (plist-get event :cell)))
         (text (rlm-trajectory--cell-line event)))
    (rlm-trajectory--close-cell node cell (plist-get event :outputCharacters))
    (let ((place (rlm-trajectory--cell-place cell)))
      (rlm-trajectory--insert node place (concat (rlm-trajectory--fresh-line place) text)))))

(defun rlm-trajectory--cell-line (event)
  "Return the line that tells how a cell has ended, as EVENT says."
  (let ((status (plist-get event :status))
        (problem (rlm-org-line (plist-get event :error) 300))
        (time (rlm-trajectory--seconds (plist-get event :seconds))))
    (if (equal status "ok")
        (format "/Ran %s./\n" time)
      (format "*Code: %s*, after %s.%s%s\n" status time
              (if (string-empty-p problem) "" (concat " " problem))
              (if (eq (plist-get event :kept) :json-false)
                  " The variables are lost."
                "")))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'subcallStarted)) event run)
  "Draw the sub-call of RUN that EVENT begins."
  (cl-incf (rlm-run-subcalls run))
  (setf (rlm-run-doing run) "sub-calls")
  (let* ((id (plist-get event :node))
         (node (rlm-trajectory--add id (rlm-trajectory--parent id)
                                    (format "Sub-call %d" (plist-get event :subcall)))))
    (rlm-trajectory--append
     node (format "Prompt, %s:"
                  (rlm-trajectory--count (plist-get event :promptCharacters) "character")))
    (rlm-trajectory--append node "\n")
    (rlm-trajectory--example node (plist-get event :prompt))
    (rlm-trajectory--fold node)))

(cl-defmethod rlm-trajectory-event ((_ (eql 'subcallDelta)) event _run)
  "Draw EVENT, more of a sub-call's answer."
  (rlm-trajectory--write (rlm-trajectory--find (plist-get event :node))
                         'prose (plist-get event :text)))

(cl-defmethod rlm-trajectory-event ((_ (eql 'subcallDone)) event run)
  "Draw the end of a sub-call of RUN, EVENT."
  (cl-incf (rlm-run-subcalls-done run))
  (when-let* ((node (gethash (plist-get event :node) rlm-trajectory--nodes)))
    (let ((folded (rlm-trajectory--folded-p node))
          (status (plist-get event :status))
          (problem (plist-get event :error)))
      (rlm-trajectory--write node 'prose (plist-get event :answer))
      (rlm-trajectory--close node)
      (when problem
        (rlm-trajectory--draw-error node problem))
      (rlm-trajectory--set node (cons (cons "RLM_STATUS" status)
                                      (rlm-trajectory--call-properties event)))
      (rlm-trajectory--retitle
       node (format (if (equal status "ok") " (%s)" (format " (%s, %%s)" status))
                    (rlm-trajectory--seconds (plist-get event :seconds))))
      (when folded
        (rlm-trajectory--fold node))
      (rlm-trajectory--release node))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'notice)) event _run)
  "Draw a notice, EVENT."
  (let* ((id (plist-get event :node))
         (node (if (and (equal id "0") rlm-trajectory--iteration)
                   rlm-trajectory--iteration
                 (rlm-trajectory--find id))))
    (rlm-trajectory--end-part node)
    (let ((place (rlm-trajectory--node-body node)))
      (rlm-trajectory--append
       node (format "%s- *%s*: %s\n" (rlm-trajectory--fresh-line place)
                    (capitalize (plist-get event :level))
                    (rlm-org-line (plist-get event :text) 1000))))))

(cl-defmethod rlm-trajectory-event ((_ (eql 'progress)) event run)
  "Note in RUN the totals of EVENT."
  (setf (rlm-run-iterations run) (plist-get event :iteration)
        (rlm-run-subcalls run) (plist-get event :subcallsStarted)
        (rlm-run-subcalls-done run) (plist-get event :subcallsDone))
  (rlm-trajectory--note-usage run (plist-get event :usage)))

(cl-defmethod rlm-trajectory-event ((_ (eql 'answer)) event run)
  "Draw EVENT, the answer of RUN or a piece of it."
  (let ((node (or (gethash "answer" rlm-trajectory--nodes)
                  (rlm-trajectory--begin-answer event))))
    (setf (rlm-run-answer run) (concat (rlm-run-answer run) (plist-get event :text)))
    (rlm-trajectory--write node 'prose (plist-get event :text))
    (unless (eq (plist-get event :more) t)
      (rlm-trajectory--end-part node)
      (rlm-trajectory--draw-evidence run node (plist-get event :evidence)))))

(defun rlm-trajectory--begin-answer (event)
  "Add the heading for the answer that EVENT begins."
  (rlm-trajectory--finish-iteration)
  (rlm-trajectory--add "answer" (rlm-trajectory--root)
                       (if (eq (plist-get event :partial) t)
                           "Answer so far"
                         "Answer")))

(defun rlm-trajectory--draw-evidence (run answer evidence)
  "Draw EVIDENCE, a vector, below the node ANSWER, and note it in RUN."
  (setf (rlm-run-evidence run) (mapcar #'rlm-trajectory--evidence evidence))
  (when (rlm-run-evidence run)
    (let ((node (rlm-trajectory--add "evidence" answer "Evidence")))
      (dolist (place (rlm-run-evidence run))
        (rlm-trajectory--append node (rlm-trajectory--evidence-line place))))))

(defun rlm-trajectory--evidence (evidence)
  "Return EVIDENCE, a plist, as (FILE-OR-URI LINE PATH QUOTE)."
  (let* ((location (plist-get evidence :location))
         (uri (plist-get location :uri))
         (line (1+ (plist-get (plist-get (plist-get location :range) :start) :line))))
    (list (rlm-trajectory--file uri) line
          (plist-get evidence :path) (plist-get evidence :quote))))

(defun rlm-trajectory--file (uri)
  "Return the name of the file that URI means, or URI itself."
  (require 'url-util)
  (cond ((string-match "\\`file://\\(?:localhost\\)?\\(/.*\\)\\'" uri)
         (decode-coding-string (url-unhex-string (match-string 1 uri)) 'utf-8))
        ((string-match "\\`\\(rlm-buffer:\\)\\(.*\\)\\'" uri)
         (concat (match-string 1 uri)
                 (decode-coding-string (url-unhex-string (match-string 2 uri)) 'utf-8)))
        (t uri)))

(defun rlm-trajectory--evidence-line (place)
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

(cl-defmethod rlm-trajectory-event ((_ (eql 'runEnded)) event run)
  "Draw the end of RUN, EVENT."
  (setf (rlm-run-status run) (plist-get event :status)
        (rlm-run-doing run) ""
        (rlm-run-reason run) (plist-get event :reason)
        (rlm-run-seconds run) (plist-get event :seconds)
        (rlm-run-iterations run) (plist-get event :iterations)
        (rlm-run-subcalls run) (plist-get event :subcalls))
  (rlm-trajectory--note-usage run (plist-get event :usage))
  (rlm-trajectory--end run event))

(defun rlm-trajectory--end (run event)
  "Draw the end of RUN, whose EVENT has been noted in it."
  (let ((root (rlm-trajectory--root)))
    (rlm-trajectory--finish-iteration)
    (maphash (lambda (_id node) (rlm-trajectory--close node)) rlm-trajectory--nodes)
    (unless (equal (rlm-run-status run) "done")
      (rlm-trajectory--draw-end run root (plist-get event :error)))
    (rlm-trajectory--set root (rlm-trajectory--end-properties run))
    (dolist (node (hash-table-values rlm-trajectory--nodes))
      (unless (member (rlm-trajectory--node-id node) '("0" "answer"))
        (rlm-trajectory--release node)))
    (rlm-trajectory--finish run)))

(defun rlm-trajectory--draw-end (run root problem)
  "Add a heading to ROOT that says why RUN has ended; PROBLEM is an error."
  (let ((node (rlm-trajectory--add
               "end" root (pcase (rlm-run-status run)
                            ("limit" "Stopped by a limit")
                            ("cancelled" "Cancelled")
                            ("interrupted" "Interrupted")
                            (_ "Failed")))))
    (rlm-trajectory--paragraph node (rlm-run-reason run))
    (when problem
      (rlm-trajectory--draw-error node problem))))

(defun rlm-trajectory--draw-error (node problem)
  "Append PROBLEM, an error as in the protocol, to NODE.
What the node says already is not said again."
  (let ((text (string-join (seq-remove #'string-empty-p
                                       (list (plist-get problem :message)
                                             (or (plist-get problem :cure) "")))
                           " ")))
    (unless (string-search (rlm-org-prose text)
                           (buffer-substring-no-properties (rlm-trajectory--node-drawer node)
                                                           (rlm-trajectory--node-body node)))
      (rlm-trajectory--paragraph node text))))

(defun rlm-trajectory--end-properties (run)
  "Return the properties that the end of RUN gives."
  `(("RLM_STATUS" . ,(rlm-run-status run))
    ("RLM_ITERATIONS" . ,(rlm-run-iterations run))
    ("RLM_SUBCALLS" . ,(rlm-run-subcalls run))
    ("RLM_TOKENS" . ,(rlm-run-tokens run))
    ("RLM_COST" . ,(rlm-trajectory--cost (rlm-run-cost run)))
    ("RLM_SECONDS" . ,(and (rlm-run-seconds run) (format "%.1f" (rlm-run-seconds run))))))

(defun rlm-trajectory--finish-iteration ()
  "End the newest iteration, put its first sentence in its heading, and fold it."
  (when-let ((node rlm-trajectory--iteration))
    (let ((summary (rlm-trajectory--sentence (rlm-trajectory--node-summary node))))
      (rlm-trajectory--close node)
      (unless (string-empty-p summary)
        (rlm-trajectory--retitle node (concat ": " summary)))
      (rlm-trajectory--fold node)
      (rlm-trajectory--release node)
      (setq rlm-trajectory--iteration nil))))

(defun rlm-trajectory--sentence (text)
  "Return the first sentence of TEXT, fit for a heading."
  (let* ((line (car (split-string text "\n" t "[ \t#*>`-]+")))
         (end (and line (string-match-p "[.!?:]\\(?: \\|\\'\\)" line))))
    (string-trim (rlm-org-line (substring (or line "") 0 end) 80) "[*:]+" "[*:]+")))

(defun rlm-trajectory--note-usage (run usage)
  "Note USAGE, a plist, in RUN."
  (setf (rlm-run-tokens run) (+ (plist-get usage :promptTokens)
                                (plist-get usage :completionTokens))
        (rlm-run-cost run) (plist-get usage :cost)))

(defun rlm-trajectory--call-properties (event)
  "Return the properties of a model call that has ended with EVENT."
  (let ((usage (plist-get event :usage)))
    `(("RLM_MODEL" . ,(plist-get event :model))
      ("RLM_TOKENS" . ,(+ (plist-get usage :promptTokens) (plist-get usage :completionTokens)))
      ("RLM_COST" . ,(rlm-trajectory--cost (plist-get usage :cost)))
      ("RLM_SECONDS" . ,(format "%.1f" (plist-get event :seconds))))))

;;;; Figures

(defun rlm-trajectory--number (number)
  "Return NUMBER with commas between its thousands."
  (let ((digits (number-to-string number)))
    (while (string-match "\\([0-9]\\)\\([0-9]\\{3\\}\\)\\(,\\|\\'\\)" digits)
      (setq digits (replace-match "\\1,\\2\\3" t nil digits)))
    digits))

(defun rlm-trajectory--count (number noun)
  "Return NUMBER with NOUN in the singular or plural."
  (format "%s %s%s" (rlm-trajectory--number number) noun (if (= number 1) "" "s")))

(defun rlm-trajectory--size (bytes)
  "Return BYTES for people."
  (cond ((< bytes 1000) (format "%d bytes" bytes))
        ((< bytes 1000000) (format "%.1f kB" (/ bytes 1e3)))
        ((< bytes 1000000000) (format "%.1f MB" (/ bytes 1e6)))
        (t (format "%.1f GB" (/ bytes 1e9)))))

(defun rlm-trajectory--cost (cost)
  "Return COST in US dollars for people; nil is unknown."
  (cond ((null cost) "unknown")
        ((zerop cost) "0")
        ((< cost 0.01) (format "$%.5f" cost))
        (t (format "$%.2f" cost))))

(defun rlm-trajectory--seconds (seconds)
  "Return SECONDS for people."
  (cond ((< seconds 10) (format "%.2f s" seconds))
        ((< seconds 60) (format "%.0f s" seconds))
        (t (format "%d:%02d min" (/ (floor seconds) 60) (% (floor seconds) 60)))))

;;;; Folding

(defun rlm-trajectory--fold (node)
  "Fold NODE, unless someone is reading in it."
  (let ((beg (marker-position (rlm-trajectory--node-start node)))
        (end (marker-position (rlm-trajectory--node-end node))))
    (unless (seq-some (lambda (window)
                        (let ((point (window-point window)))
                          (and (< beg point) (< point end))))
                      (get-buffer-window-list nil nil t))
      (save-excursion
        (goto-char beg)
        (if (fboundp 'org-fold-subtree)
            (org-fold-subtree t)
          (with-no-warnings (org-flag-subtree t)))))))

(defun rlm-trajectory--folded-p (node)
  "Return non-nil if the text of NODE is hidden."
  (save-excursion
    (goto-char (rlm-trajectory--node-start node))
    (invisible-p (line-end-position))))

(defun rlm-trajectory--unfold ()
  "Show the entry at point and where it stands."
  (if (fboundp 'org-fold-show-subtree)
      (progn (org-fold-show-context 'agenda) (org-fold-show-subtree))
    (with-no-warnings
      (org-show-context 'agenda)
      (org-show-subtree))))

;;;; Collecting events

(defvar-local rlm-trajectory--queue nil
  "Events that wait to be drawn, oldest first.")

(defvar-local rlm-trajectory--incoming nil
  "Events that have come in since, newest first.")

(defvar-local rlm-trajectory--seq -1
  "Number of the newest event that was taken.")

(defvar-local rlm-trajectory--replayed -1
  "Events up to this number are a replay of a run that has ended.
Nothing is saved, and no hook is run, when such a run ends.")

(defvar rlm-trajectory--timer (timer-create)
  "The one timer that draws.")

(defvar rlm-trajectory--dirty nil
  "Buffers with events that wait to be drawn.")

(defconst rlm-trajectory--slice 0.012
  "Seconds for which one buffer is drawn at once.")

(defun rlm-trajectory-push (buffer event)
  "Let BUFFER draw EVENT, a plist, soon.
Return the number of the event that should have come first, if any did not
come; EVENT is dropped then, as it is if it has come before."
  (with-current-buffer buffer
    (let ((seq (plist-get event :seq)))
      (cond ((<= seq rlm-trajectory--seq) nil)
            ((> seq (max (1+ rlm-trajectory--seq) rlm-trajectory--replayed))
             (1+ rlm-trajectory--seq))
            (t (setq rlm-trajectory--seq seq) ; a damaged log has gaps
               (push event rlm-trajectory--incoming)
               (rlm-trajectory--arm buffer rlm-flush-seconds)
               nil)))))

(defun rlm-trajectory--arm (buffer seconds)
  "Let BUFFER be drawn in SECONDS."
  (unless (memq buffer rlm-trajectory--dirty)
    (push buffer rlm-trajectory--dirty))
  (unless (memq rlm-trajectory--timer timer-list)
    (timer-set-function rlm-trajectory--timer #'rlm-trajectory--tick)
    (timer-set-time rlm-trajectory--timer (time-add nil seconds))
    (timer-activate rlm-trajectory--timer)))

(defun rlm-trajectory--tick ()
  "Draw what waits, for a bounded time; the rest is drawn a little later."
  (let ((buffers (seq-filter #'buffer-live-p rlm-trajectory--dirty)))
    (setq rlm-trajectory--dirty nil)
    (dolist (buffer buffers)
      (unless (rlm-trajectory--flush buffer (+ (float-time) rlm-trajectory--slice))
        (push buffer rlm-trajectory--dirty)))
    (when rlm-trajectory--dirty
      (rlm-trajectory--arm (car rlm-trajectory--dirty) 0.01))))

(defun rlm-trajectory-flush (buffer)
  "Draw everything that waits for BUFFER, now."
  (rlm-trajectory--flush buffer nil)
  (setq rlm-trajectory--dirty (delq buffer rlm-trajectory--dirty)))

(defun rlm-trajectory--flush (buffer deadline)
  "Draw what waits for BUFFER until DEADLINE, nil: to the end.
Return non-nil if nothing is left."
  (with-current-buffer buffer
    (let ((followers (rlm-trajectory--followers))
          (inhibit-read-only t))
      (save-excursion
        (save-restriction
          (widen)
          (while (and (rlm-trajectory--next)
                      (or (null deadline) (< (float-time) deadline)))
            (rlm-trajectory--draw-safely (pop rlm-trajectory--queue)))))
      (when (buffer-live-p buffer)
        (set-buffer-modified-p nil)
        (rlm-trajectory--move followers)
        (force-mode-line-update)
        (not (rlm-trajectory--next))))))

(defun rlm-trajectory--next ()
  "Return the next event to be drawn, or nil."
  (unless rlm-trajectory--queue
    (setq rlm-trajectory--queue (nreverse rlm-trajectory--incoming)
          rlm-trajectory--incoming nil))
  (car rlm-trajectory--queue))

(defun rlm-trajectory--draw-safely (event)
  "Draw EVENT; an error is told and does not stop the rest."
  (condition-case problem
      (progn
        (rlm-trajectory--draw event)
        (when (= (plist-get event :seq) rlm-trajectory--replayed)
          (rlm-trajectory--end-of-replay)))
    (error (message "rlm: event %s (%s) can't be drawn: %s" (plist-get event :seq)
                    (plist-get event :kind) (error-message-string problem)))))

(defun rlm-trajectory--end-of-replay ()
  "Draw the end of a replayed run whose log has none."
  (when (rlm-run-live-p rlm-trajectory--run)
    (rlm-trajectory--draw-interruption
     "The log of this run has no end: its server died, or was killed.")))

;;;; Following the end

(defvar-local rlm-trajectory--follow t
  "Whether windows whose point is at the end stay there.")

(defvar-local rlm-trajectory--arrived nil
  "Non-nil just after the run has ended, when followers go to the answer.")

(defun rlm-trajectory--followers ()
  "Return the windows that follow the end; t stands for the buffer itself."
  (when rlm-trajectory--follow
    (append (and (= (point) (point-max)) '(t))
            (seq-filter (lambda (window) (= (window-point window) (point-max)))
                        (get-buffer-window-list nil nil t)))))

(defun rlm-trajectory--move (followers)
  "Move FOLLOWERS to the end, or to the answer if the run has just ended."
  (let* ((node (and rlm-trajectory--arrived rlm-trajectory--nodes
                    (gethash "answer" rlm-trajectory--nodes)))
         (target (if node (marker-position (rlm-trajectory--node-start node)) (point-max))))
    (setq rlm-trajectory--arrived nil)
    (dolist (follower followers)
      (if (eq follower t)
          (goto-char target)
        (set-window-point follower target)
        (when node
          (set-window-start follower target t))))))

;;;; The end of a run

(defun rlm-trajectory--finish (run)
  "Save the transcript of RUN and tell those who want to know that it has ended."
  (setq rlm-trajectory--arrived t)
  (if (<= rlm-trajectory--seq rlm-trajectory--replayed)
      (setf (rlm-run-transcript run) (rlm-trajectory--saved-transcript run))
    (rlm-trajectory-save)
    (run-hook-wrapped 'rlm-after-run-functions #'rlm-trajectory--call-hook run)))

(defun rlm-trajectory--call-hook (function run)
  "Call FUNCTION with RUN; an error is told, and the others are called."
  (save-excursion
    (condition-case problem
        (funcall function run)
      (error (message "rlm: error in `rlm-after-run-functions': %s"
                      (error-message-string problem)))))
  nil)

(defun rlm-trajectory-interrupt (buffer reason)
  "Draw in BUFFER that its run was interrupted, and REASON, a sentence."
  (rlm-trajectory-flush buffer)
  (with-current-buffer buffer
    (let ((run rlm-trajectory--run))
      (when (rlm-run-live-p run)
        (let ((followers (rlm-trajectory--followers))
              (inhibit-read-only t))
          (save-excursion
            (save-restriction
              (widen)
              (rlm-trajectory--draw-interruption reason)))
          (set-buffer-modified-p nil)
          (rlm-trajectory--move followers)
          (force-mode-line-update))))))

(defun rlm-trajectory--draw-interruption (reason)
  "Draw the end of a run that was interrupted, and REASON, a sentence."
  (let ((run rlm-trajectory--run))
    (setf (rlm-run-status run) "interrupted"
          (rlm-run-doing run) ""
          (rlm-run-reason run) reason
          (rlm-run-seconds run) (rlm-trajectory--elapsed run))
    (rlm-trajectory--end run nil)))

(defun rlm-trajectory-fail (buffer text)
  "Draw in BUFFER that its question could not be asked, and why: TEXT."
  (with-current-buffer buffer
    (let ((run rlm-trajectory--run)
          (inhibit-read-only t))
      (setf (rlm-run-status run) "failed"
            (rlm-run-doing run) ""
            (rlm-run-reason run) text)
      (save-excursion
        (rlm-trajectory--draw-end run (rlm-trajectory--root) nil))
      (set-buffer-modified-p nil)
      (force-mode-line-update))))

;;;; Transcripts

(defconst rlm-trajectory--tail "\n\f\n# The end of the transcript.\n"
  "Text after a transcript.
Behind the form feed Emacs would look for local variables, so that nothing
a model has written can be taken for some.")

(defun rlm-trajectory--transcript-name (run)
  "Return the name, without directory, of the transcript of RUN."
  (format "%s-%s.org"
          (replace-regexp-in-string "[^[:alnum:]-]" "" (or (rlm-run-id run) "unasked"))
          (let ((slug (string-trim (replace-regexp-in-string
                                    "[^[:alnum:]]+" "-" (downcase (rlm-run-question run)))
                                   "-+" "-+")))
            (string-trim-right (substring slug 0 (min 50 (length slug))) "-+"))))

(defun rlm-trajectory--saved-transcript (run)
  "Return the name of the transcript of RUN if there is one, or nil."
  (when rlm-transcript-directory
    (let ((file (expand-file-name (rlm-trajectory--transcript-name run)
                                  rlm-transcript-directory)))
      (and (file-exists-p file) file))))

(defun rlm-trajectory-save ()
  "Save the transcript of this buffer's run in `rlm-transcript-directory'.
If that can't be done, say so; the buffer stays as it is in any case."
  (interactive nil rlm-trajectory-mode)
  (let ((run rlm-trajectory--run))
    (when (and (called-interactively-p 'interactive) (not rlm-transcript-directory))
      (user-error "`rlm-transcript-directory' is nil"))
    (when (and rlm-transcript-directory (rlm-run-id run))
      (let ((file (expand-file-name (rlm-trajectory--transcript-name run)
                                    rlm-transcript-directory)))
        (condition-case problem
            (progn
              (make-directory rlm-transcript-directory t)
              (rlm-trajectory--write-file file)
              (setf (rlm-run-transcript run) file)
              (message "rlm: transcript saved in %s" (abbreviate-file-name file)))
          (file-error
           (message "rlm: the transcript can't be saved (%s); buffer %s has it, %s"
                    (error-message-string problem) (buffer-name)
                    "and s there saves it again")))))))

(defun rlm-trajectory--write-file (file)
  "Write the current buffer's text and the tail of transcripts to FILE."
  (let ((text (save-restriction (widen) (buffer-substring-no-properties (point-min) (point-max))))
        (coding-system-for-write 'utf-8-unix))
    (with-temp-buffer
      (insert text rlm-trajectory--tail)
      (write-region nil nil file nil 'silent))))

;;;; Header line

(defun rlm-trajectory--elapsed (run)
  "Return for how many seconds RUN has been or was going on, or nil."
  (or (rlm-run-seconds run)
      (and (rlm-run-started run) (max 0 (- (float-time) (rlm-run-started run))))))

(defun rlm-trajectory-header ()
  "Return the header line of the current buffer's run."
  (let* ((run rlm-trajectory--run)
         (elapsed (rlm-trajectory--elapsed run)))
    (concat " " (rlm-trajectory--header-status run)
            (mapconcat
             (lambda (text) (if (or (null text) (string-empty-p text)) "" (concat " | " text)))
             (list (and (rlm-run-live-p run) (rlm-run-doing run))
                   (rlm-trajectory--header-figures run)
                   (and elapsed (rlm-trajectory--clock elapsed))
                   (if (rlm-run-live-p run) "k cancel" "? help"))
             ""))))

(defun rlm-trajectory--header-status (run)
  "Return the status of RUN with a face."
  (let ((status (rlm-run-status run)))
    (propertize status 'face (pcase status
                               ((or "running" "asking") 'rlm-header)
                               ("done" 'rlm-header-good)
                               ((or "limit" "cancelled") 'rlm-header-warning)
                               (_ 'rlm-header-bad)))))

(defun rlm-trajectory--header-figures (run)
  "Return what RUN has used so far."
  (when (rlm-run-started run)
    (format "iteration %d | sub-calls %d/%d | %s tokens | %s"
            (rlm-run-iterations run) (rlm-run-subcalls-done run) (rlm-run-subcalls run)
            (rlm-trajectory--number (rlm-run-tokens run))
            (let ((cost (rlm-run-cost run)))
              (if (null cost) "cost unknown"
                (if (zerop cost) "no cost" (rlm-trajectory--cost cost)))))))

(defun rlm-trajectory--clock (seconds)
  "Return SECONDS as minutes and seconds."
  (format "%d:%02d" (/ (floor seconds) 60) (% (floor seconds) 60)))

(defvar rlm-trajectory--clock-timer nil
  "Timer that lets the header lines of live runs count, or nil.")

(defun rlm-trajectory--tick-clocks ()
  "Let the header lines of live runs that are shown count; stop if there are none."
  (let (live)
    (dolist (buffer (buffer-list))
      (when-let ((run (buffer-local-value 'rlm-trajectory--run buffer)))
        (when (rlm-run-live-p run)
          (setq live t)
          (when (get-buffer-window buffer t)
            (with-current-buffer buffer
              (force-mode-line-update))))))
    (unless live
      (cancel-timer rlm-trajectory--clock-timer)
      (setq rlm-trajectory--clock-timer nil))))

(defun rlm-trajectory-say (buffer text)
  "Let the header line of BUFFER say TEXT until something else happens."
  (with-current-buffer buffer
    (setf (rlm-run-doing rlm-trajectory--run) text)
    (force-mode-line-update)))

;;;; Commands

(defun rlm-trajectory-next (count)
  "Go to the next visible heading, or COUNT headings on."
  (interactive "p" rlm-trajectory-mode)
  (org-next-visible-heading count))

(defun rlm-trajectory-previous (count)
  "Go to the previous visible heading, or COUNT headings back."
  (interactive "p" rlm-trajectory-mode)
  (org-next-visible-heading (- count)))

(defun rlm-trajectory-show-answer ()
  "Go to the answer, or to why there is none."
  (interactive nil rlm-trajectory-mode)
  (goto-char (or (rlm-trajectory--last-heading "Answer\\(?: so far\\)?")
                 (rlm-trajectory--last-heading "[CFS].*\\|Interrupted")
                 (user-error "There is no answer yet")))
  (rlm-trajectory--unfold)
  (recenter 0))

(defun rlm-trajectory--last-heading (regexp)
  "Return where the last heading of the second level is that matches REGEXP."
  (save-excursion
    (goto-char (point-max))
    (re-search-backward (format "^\\*\\* \\(?:%s\\)$" regexp) nil t)))

(defun rlm-trajectory-toggle-follow ()
  "Follow the end of the buffer as it grows, or stop to do so."
  (interactive nil rlm-trajectory-mode)
  (setq rlm-trajectory--follow (not rlm-trajectory--follow))
  (when rlm-trajectory--follow
    (goto-char (point-max)))
  (message (if rlm-trajectory--follow
               "Following the run while point is at the end"
             "Not following the run")))

(defun rlm-trajectory-follow-link ()
  "Visit the evidence or link at point, or else fold or unfold the heading."
  (interactive nil rlm-trajectory-mode)
  (let ((place (get-text-property (line-beginning-position) 'rlm-evidence)))
    (cond (place (apply #'rlm-trajectory--visit place))
          ((rlm-trajectory--visit-link))
          ((org-at-heading-p) (org-cycle))
          (t (user-error "There is no evidence or link here")))))

(defun rlm-trajectory--visit (place line)
  "Visit LINE of PLACE, a file's name or the URI of a buffer, in another window."
  (pop-to-buffer
   (if (string-prefix-p "rlm-buffer:" place)
       (rlm-trajectory--named-buffer (string-remove-prefix "rlm-buffer:" place))
     (unless (file-exists-p place)
       (user-error "%s is gone" (abbreviate-file-name place)))
     (find-file-noselect place)))
  (push-mark nil t)
  (let ((start (rlm-trajectory--line-start line)))
    (unless (<= (point-min) start (point-max))
      (widen))
    (goto-char start))
  (recenter))

(defun rlm-trajectory--named-buffer (name)
  "Return the buffer NAME, or visit the remote file NAME."
  (cond ((get-buffer name))
        ((file-remote-p name) (find-file-noselect name))
        (t (user-error "The buffer %s is gone" name))))

(defun rlm-trajectory--line-start (line)
  "Return where LINE of the whole buffer begins."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (forward-line (1- line))
      (point))))

(defun rlm-trajectory--visit-link ()
  "Visit the link at point if it leads to a file or the web; return non-nil then.
Links that run something are the model's words and are not followed."
  (let ((link (org-element-context)))
    (when (eq (org-element-type link) 'link)
      (pcase (org-element-property :type link)
        ("file" (rlm-trajectory--visit
                 (expand-file-name (org-element-property :path link))
                 (string-to-number (or (org-element-property :search-option link) "1")))
         t)
        ((or "http" "https")
         (browse-url (org-element-property :raw-link link))
         t)
        (type (user-error "Links of type %s are not followed here" type))))))

(defun rlm-trajectory-help ()
  "Describe the keys of this buffer."
  (interactive nil rlm-trajectory-mode)
  (describe-keymap 'rlm-trajectory-mode-map))

;;;; The mode

(defvar rlm-trajectory-mode-map
  (let ((map (make-sparse-keymap)))
    (suppress-keymap map)
    (define-key map "n" #'rlm-trajectory-next)
    (define-key map "p" #'rlm-trajectory-previous)
    (define-key map (kbd "TAB") #'org-cycle)
    (define-key map (kbd "RET") #'rlm-trajectory-follow-link)
    (define-key map "a" #'rlm-trajectory-show-answer)
    (define-key map "f" #'rlm-trajectory-toggle-follow)
    (define-key map "g" #'rlm-redraw)
    (define-key map "k" #'rlm-cancel)
    (define-key map "s" #'rlm-trajectory-save)
    (define-key map "q" #'quit-window)
    (define-key map "?" #'rlm-trajectory-help)
    (define-key map (kbd "SPC") #'scroll-up-command)
    (define-key map (kbd "S-SPC") #'scroll-down-command)
    (define-key map (kbd "DEL") #'scroll-down-command)
    map)
  "Keys of `rlm-trajectory-mode'.")

(define-derived-mode rlm-trajectory-mode org-mode "rlm"
  "Major mode of the buffer that shows a run as it goes on.

\\{rlm-trajectory-mode-map}"
  :interactive nil
  (setq buffer-read-only t)
  (setq truncate-lines nil word-wrap t)
  (setq bidi-paragraph-direction 'left-to-right)
  (setq-local bidi-inhibit-bpa t)
  (setq-local scroll-conservatively 101)
  ;; Each of these was measured to cost redisplay time while text streams in.
  (setq-local org-src-fontify-natively nil)
  (when (boundp 'long-line-threshold)
    (setq-local long-line-threshold nil))
  (setq-local header-line-format '(:eval (rlm-trajectory-header)))
  (buffer-disable-undo)
  (add-hook 'kill-buffer-query-functions #'rlm-trajectory--kill-p nil t))

(defvar rlm-trajectory-cancel-function #'ignore
  "Function called with a live run whose buffer is about to be killed.")

(defun rlm-trajectory--kill-p ()
  "Return non-nil if this buffer may be killed; a live run is cancelled then."
  (let ((run rlm-trajectory--run))
    (cond ((not (and run (rlm-run-id run) (rlm-run-live-p run))) t)
          ((or noninteractive (yes-or-no-p "This run is going on; cancel it? "))
           (funcall rlm-trajectory-cancel-function run)
           t))))

(defvar org-modules-loaded)

(defun rlm-trajectory-create (question)
  "Return a new buffer for a run that answers QUESTION."
  (with-current-buffer
      (generate-new-buffer (format "*rlm: %s*" (rlm-org-line question 50)))
    ;; The modules are for agendas and capture, and take most of a second to load.
    (let ((org-modules-loaded t)
          (org-inhibit-startup t))
      (rlm-trajectory-mode))
    (rlm-trajectory--begin question)
    (unless rlm-trajectory--clock-timer
      (setq rlm-trajectory--clock-timer (run-at-time 1 1 #'rlm-trajectory--tick-clocks)))
    (current-buffer)))

(defun rlm-trajectory--begin (question)
  "Make the current buffer one for a run that answers QUESTION.
It has no event yet."
  (setq rlm-trajectory--run (rlm-run--make :question question)
        rlm-trajectory--nodes (make-hash-table :test #'equal)
        rlm-trajectory--iteration nil
        rlm-trajectory--queue nil rlm-trajectory--incoming nil
        rlm-trajectory--seq -1 rlm-trajectory--replayed -1)
  (let ((inhibit-read-only t))
    (widen)
    (erase-buffer)
    (insert "# -*- mode: org; coding: utf-8 -*-\n"
            "#+title: " (rlm-org-line question 200) "\n"
            "#+filetags: :rlm:\n"
            "#+startup: overview\n\n")
    (set-buffer-modified-p nil)))

(defun rlm-trajectory-reset (buffer)
  "Make BUFFER empty, as before the first event of its run."
  (with-current-buffer buffer
    (let ((old rlm-trajectory--run))
      (rlm-trajectory--begin (rlm-run-question old))
      (setf (rlm-run-id rlm-trajectory--run) (rlm-run-id old)
            (rlm-run-log rlm-trajectory--run) (rlm-run-log old)
            (rlm-run-transcript rlm-trajectory--run) (rlm-run-transcript old)))
    (goto-char (point-max))))

(defun rlm-trajectory-expect (buffer last-seq)
  "Let BUFFER know that its run has ended and that LAST-SEQ is its last event.
A run without an end in its log was interrupted."
  (with-current-buffer buffer
    (setq rlm-trajectory--replayed last-seq)))

(provide 'rlm-trajectory)
;;; rlm-trajectory.el ends here
