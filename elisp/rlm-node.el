;;; rlm-node.el --- Headings that grow in several places at once  -*- lexical-binding: t; -*-

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

;; A run is a tree of headings, and text arrives for several of them at the
;; same time: sub-calls answer while code prints.  A node is a heading with
;; markers of its own, so that no text gets into that of another.  Blocks
;; are closed when they are opened, and their text goes in before their
;; last line: the buffer is valid Org at every moment.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'org)
(require 'rlm-markdown)
(require 'rlm-org)
(require 'rlm-run)

(declare-function org-fold-region "org-fold" (from to flag &optional spec))

;;;; Customization

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

(defcustom rlm-convert-markdown t
  "Whether the Markdown that models write is shown as Org.
With nil it stays Markdown, but for fences and what would break the buffer."
  :group 'rlm
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

;;;; Nodes and the places where text goes

(cl-defstruct (rlm-node (:constructor rlm-node--make) (:copier nil))
  "A heading and what stands below it.
Insertion does not move BODY and END, `rlm-node-insert' does, so
that neighbours which end at the same place do not mingle."
  id level parent
  start                       ; marker at the heading, moved by insertion
  drawer                      ; marker after the heading's line
  (drawer-length 0)
  body                        ; marker at the end of the node's own text
  end                         ; marker at the end of the subtree
  properties                  ; alist, name and value
  begun                       ; time it began, or nil
  (calls 0) (tokens 0) (cost 0) ; of the models, with all below; nil is unknown
  (summary "")                ; start of its prose
  part                        ; kind of text being written, or nil
  filter                      ; filter of that text
  markdown                    ; converter of that text, or nil
  rest                        ; marker where the text begins that is not converted yet
  block                       ; block that is open
  blocks                      ; code blocks of this reply, newest first
  cells)                      ; alist, number and `rlm-cell'

(cl-defstruct (rlm-block (:constructor rlm-block--make) (:copier nil))
  "A block whose text is being written."
  at                          ; marker before its last line
  after                       ; marker after its last line
  filter)

(cl-defstruct (rlm-cell (:constructor rlm-cell--make) (:copier nil))
  "A piece of code that runs, and what it prints."
  place                       ; marker where its results go
  block                       ; block of the results, or nil
  (stream nil)
  (shown 0) (received 0) (tail ""))

(defvar-local rlm-node-table nil
  "Hash table of this buffer's nodes by id.")

(defun rlm-node-insert (node marker text)
  "Insert TEXT at MARKER, which is in NODE, and move MARKER behind it."
  (unless (string-empty-p text)
    (goto-char marker)
    (rlm-node--insert-here text)
    (set-marker marker (point))
    (rlm-node--reach (rlm-node-body node))
    (rlm-node--extend node)))

(defvar org-fold-core--ignore-modifications)

(defun rlm-node--insert-here (text)
  "Insert TEXT at point, without what others do needlessly at each change.
Since version 9.6, Org looks at each change whether it is within a fold, and
that makes garbage of kilobytes; before text that can be seen there is none.
Beside text whose faces nobody has looked for there are none to be renewed."
  (let ((org-fold-core--ignore-modifications (not (invisible-p (point))))
        (jit-lock-mode (and jit-lock-mode
                            (or (get-text-property (point) 'fontified)
                                (and (> (point) (point-min))
                                     (get-text-property (1- (point)) 'fontified))))))
    (insert text)))

(defun rlm-node--extend (node)
  "Let NODE and those above it reach to point at least."
  (while node
    (rlm-node--reach (rlm-node-end node))
    (setq node (rlm-node-parent node))))

(defun rlm-node--reach (marker)
  "Move MARKER to point if it is before it."
  (when (< marker (point))
    (set-marker marker (point))))

(defun rlm-node-append (node text)
  "Append TEXT to NODE's own text.
If that ends within a line now, there is a newline after it, for the sake of
what follows; it goes when the line is complete."
  (let* ((body (rlm-node-body node))
         (within (progn (goto-char body) (not (bolp)))))
    (rlm-node-insert node body text)
    (goto-char body)
    (cond ((not (bolp))
           (unless (or (eobp) (eq (char-after) ?\n))
             (insert "\n")))
          ((and within (eq (char-after) ?\n))
           (delete-char 1)))))

(defun rlm-node-fresh-line (marker)
  "Return what has to be inserted at MARKER for a blank line before it."
  (save-excursion
    (goto-char marker)
    (cond ((not (bolp)) "\n\n")
          ((progn (forward-line -1) (looking-at-p "[ \t]*$\\|:END:$")) "")
          (t "\n"))))

(defun rlm-node-add (id parent title &optional properties)
  "Add a node ID with a heading TITLE and PROPERTIES at the end of PARENT.
PARENT is nil for the run itself."
  (let* ((level (if parent (1+ (rlm-node-level parent)) 1))
         (beg (if parent (marker-position (rlm-node-end parent)) (point-max))))
    (goto-char beg)
    (unless (bolp)
      (insert "\n")
      (setq beg (point)))
    (rlm-node--show-newline)
    (rlm-node--insert-here (concat (make-string level ?*) " " title "\n"))
    (let ((node (rlm-node--make
                 :id id :level level :parent parent
                 :properties (when (string-match-p "\\`0\\.[0-9.]+\\'" id)
                               (list (cons "RLM_NODE" id))) :start (copy-marker beg t)
                 :drawer (copy-marker (point)) :body (copy-marker (point))
                 :end (copy-marker (point)))))
      (rlm-node--extend parent)
      (puthash id node rlm-node-table)
      (when properties
        (rlm-node-set node properties))
      node)))

(defun rlm-node-set (node properties)
  "Set PROPERTIES, an alist, of NODE in its drawer; nil values are left out."
  (let ((all (rlm-node-properties node))
        (drawer (rlm-node-drawer node)))
    (pcase-dolist (`(,name . ,value) properties)
      (when value
        (setf (alist-get name all nil nil #'equal) (rlm-org-line (format "%s" value) 500))))
    (setf (rlm-node-properties node) all)
    (delete-region drawer (+ drawer (rlm-node-drawer-length node)))
    (let ((text (concat ":PROPERTIES:\n"
                        (mapconcat (lambda (entry) (format ":%s: %s\n" (car entry) (cdr entry)))
                                   (reverse all) "")
                        ":END:\n"))
          (beg (marker-position drawer)))
      (setf (rlm-node-drawer-length node) (length text))
      (rlm-node-insert node drawer text)
      (set-marker drawer beg)
      (rlm-node-hide-drawer beg))))

(defun rlm-node-hide-drawer (beg)
  "Hide the text of the drawer that begins at BEG."
  (save-excursion
    (goto-char beg)
    (let ((from (line-end-position))
          (to (and (re-search-forward "^:END:$" nil t) (point))))
      (unless (or (null to) (invisible-p from))
        (rlm-node--flag from to t 'drawer)))))

(defun rlm-node--flag (from to hide spec)
  "Hide the text between FROM and TO as what SPEC names, or show it if not HIDE."
  (if (fboundp 'org-fold-region)
      (org-fold-region from to hide spec)
    (with-no-warnings (org-flag-region from to hide 'outline))))

(defun rlm-node--show-newline ()
  "Show the newline before point if it is the last thing that is hidden.
Org 9.7 hides it with the last heading of a buffer that is folded by hand."
  (when (and (> (point) (point-min)) (invisible-p (1- (point))) (not (invisible-p (point))))
    (rlm-node--flag (1- (point)) (point) nil 'outline)))

(defun rlm-node-release (node)
  "Let go of NODE, to which nothing will be added, and of its markers."
  (dolist (marker (list (rlm-node-start node) (rlm-node-drawer node)
                        (rlm-node-body node) (rlm-node-end node)))
    (set-marker marker nil))
  (remhash (rlm-node-id node) rlm-node-table))

;;;; Blocks

(defun rlm-block-open (node place begin end filter)
  "Open a block between the lines BEGIN and END at the marker PLACE in NODE.
Text goes into it through FILTER."
  (rlm-node-insert node place
                   (concat (rlm-node-fresh-line place) begin "\n\n" end "\n"))
  (let* ((after (copy-marker place))
         (at (copy-marker (- after (length end) 2))))
    (rlm-block--make :at at :after after :filter filter)))

(defun rlm-block-write (node block text)
  "Write TEXT into BLOCK of NODE."
  (rlm-node-insert node (rlm-block-at block)
                   (rlm-org-feed (rlm-block-filter block) text)))

(defun rlm-block-close (node block)
  "Close BLOCK of NODE; the place after it stays known."
  (let ((at (rlm-block-at block)))
    (rlm-node-insert node at (rlm-org-finish (rlm-block-filter block)))
    (delete-region at (1+ at))
    (set-marker at nil)))

(defun rlm-block-beginning (block line)
  "Return where BLOCK, which has been closed, begins with LINE."
  (save-excursion
    (goto-char (rlm-block-after block))
    (re-search-backward (concat "^" (regexp-quote line) "$"))))

(defun rlm-node-example (node text)
  "Append TEXT to NODE as an example block."
  (let ((block (rlm-block-open
                node (rlm-node-body node) "#+begin_example" "#+end_example"
                (rlm-org-block-filter rlm-line-limit))))
    (rlm-block-write node block text)
    (rlm-block-close node block)
    (set-marker (rlm-block-after block) nil)))

;;;; Parts of a reply

(defun rlm-node-write (node part text)
  "Append TEXT to NODE as PART.
That is `prose', which is Markdown, `plain' text, `code', `reasoning', or
`fence'.  Fences are not shown; they tell two pieces of code apart."
  (unless (eq part (rlm-node-part node))
    (rlm-node-end-part node)
    (setq text (if (eq part 'fence) "" (string-trim-left text "\n+")))
    (unless (string-empty-p text)
      (rlm-node--begin-part node part)))
  (cond ((null (rlm-node-part node)))
        ((memq part '(prose plain))
         (rlm-node--note-summary node text)
         (if (rlm-node-markdown node)
             (rlm-node--convert node (rlm-markdown-feed (rlm-node-markdown node) text) text)
           (rlm-node-append node (rlm-org-feed (rlm-node-filter node) text))))
        (t (rlm-block-write node (rlm-node-block node) text))))

(defun rlm-node--note-summary (node text)
  "Keep the start of NODE's prose, to which TEXT belongs."
  (let ((summary (rlm-node-summary node)))
    (when (< (length summary) 300)
      (setf (rlm-node-summary node)
            (concat summary (substring text 0 (min 300 (length text))))))))

(defun rlm-node-retitle (node text)
  "Append TEXT to the heading of NODE."
  (save-excursion
    (goto-char (rlm-node-start node))
    (end-of-line)
    ;; A fold begins here, and headings stay in sight.
    (let ((org-fold-core--ignore-modifications t))
      (insert text))))

(defun rlm-node--begin-part (node part)
  "Begin PART of NODE."
  (let ((place (rlm-node-body node)))
    (setf (rlm-node-part node) part)
    (pcase part
      ((or 'prose 'plain)
       (rlm-node--note-summary node "\n")
       (if (and (eq part 'prose) rlm-convert-markdown)
           (setf (rlm-node-markdown node) (rlm-markdown-make))
         (rlm-node-append node (rlm-node-fresh-line place)))
       (setf (rlm-node-filter node) (rlm-org-prose-filter)))
      ('code
       (setf (rlm-node-block node)
             (rlm-block-open node place "#+begin_src python" "#+end_src"
                             (rlm-org-block-filter)))
       (push (rlm-node-block node) (rlm-node-blocks node)))
      ('reasoning
       (setf (rlm-node-block node)
             (rlm-block-open node place ":REASONING:" ":END:"
                             (rlm-org-prose-filter)))))))

(defun rlm-node-end-part (node)
  "End the part of NODE that is being written, if any."
  (pcase (rlm-node-part node)
    ('nil)
    ((and (or 'prose 'plain) (guard (rlm-node-markdown node)))
     (rlm-node--convert node (rlm-markdown-finish (rlm-node-markdown node)) nil))
    ((or 'prose 'plain) (rlm-node-append node (rlm-org-finish (rlm-node-filter node))))
    (part (rlm-block-close node (rlm-node-block node))
          (when (eq part 'reasoning)
            (rlm-node-hide-drawer
             (rlm-block-beginning (rlm-node-block node) ":REASONING:")))))
  (setf (rlm-node-part node) nil
        (rlm-node-filter node) nil
        (rlm-node-markdown node) nil
        (rlm-node-block node) nil))

(defun rlm-node-paragraph (node text)
  "Append TEXT, which is no Markdown, to NODE as paragraphs of their own."
  (rlm-node-end-part node)
  (rlm-node-write node 'plain text)
  (rlm-node-end-part node))

;;;; Markdown
;; What can't be converted yet is shown as it is; what it becomes takes its
;; place.  The marker REST is where that text begins.

(defun rlm-node--convert (node work text)
  "Do the WORK that the converter of NODE gives, having been fed TEXT.
TEXT is nil at the end."
  (if (and (null work) text (rlm-node-rest node))
      (rlm-node-append node (rlm-org-feed (rlm-node-filter node) text))
    (when (rlm-node-rest node)
      (setq work (rlm-node--replace-rest node work)))
    (dolist (step work)
      (rlm-node--convert-step node step))
    (let ((rest (rlm-markdown-rest (rlm-node-markdown node))))
      (unless (string-blank-p rest)
        (rlm-node--show-rest node (string-trim-left rest "\n+"))))))

(defun rlm-node--convert-step (node step)
  "Take STEP of the converter in NODE."
  (pcase step
    (`(text . ,lines)
     (rlm-node-append node (concat (rlm-node-fresh-line (rlm-node-body node))
                                   (string-join lines "\n") "\n")))
    (`(more . ,lines)
     (rlm-node-append node (concat (string-join lines "\n") "\n")))
    (`(open ,begin . ,end)
     (setf (rlm-node-block node)
           (rlm-block-open node (rlm-node-body node) begin end
                           (rlm-org-block-filter (max 10000 rlm-line-limit)))))
    (`(code . ,text) (rlm-block-write node (rlm-node-block node) text))
    (_ (rlm-block-close node (rlm-node-block node))
       (set-marker (rlm-block-after (rlm-node-block node)) nil)
       (setf (rlm-node-block node) nil))))

(defun rlm-node--show-rest (node text)
  "Show TEXT in NODE, which can't be converted yet."
  (setf (rlm-node-rest node) (copy-marker (rlm-node-body node))
        (rlm-node-filter node) (rlm-org-prose-filter))
  (rlm-node-append node (concat (rlm-node-fresh-line (rlm-node-body node))
                                (rlm-org-feed (rlm-node-filter node) text))))

(defun rlm-node--replace-rest (node work)
  "Do the first of WORK in the place of the unconverted text of NODE.
Return the rest of it.  Lines that stay the same are left alone, since
somebody may be reading them."
  (let* ((beg (marker-position (rlm-node-rest node)))
         (body (rlm-node-body node))
         (old (buffer-substring-no-properties beg body))
         (new (pcase (car work)
                (`(text . ,lines)
                 (pop work)
                 (concat (rlm-node-fresh-line (rlm-node-rest node))
                         (string-join lines "\n") "\n"))
                (_ "")))
         (same (rlm-node--same-lines old new)))
    (set-marker (rlm-node-rest node) nil)
    (setf (rlm-node-rest node) nil)
    (goto-char body)
    (let ((within (not (bolp))))
      (delete-region (+ beg same) body)
      (goto-char body)
      (when (and within (bolp) (eq (char-after) ?\n))
        (delete-char 1)))
    (rlm-node-append node (substring new same))
    work))

(defun rlm-node--same-lines (old new)
  "Return how many characters of whole lines are the same in OLD and NEW."
  (let* ((difference (compare-strings old nil nil new nil nil))
         (same (if (eq difference t) (length old) (1- (abs difference)))))
    (rlm-org-last-line (substring new 0 same))))

;;;; Cells

(defun rlm-node-cell (node number)
  "Return the cell NUMBER of NODE; its results go to the end if it is unknown."
  (or (alist-get number (rlm-node-cells node))
      (progn
        (rlm-node-append node "\n")
        (setf (alist-get number (rlm-node-cells node))
              (rlm-cell--make
               :place (copy-marker (rlm-node-body node)))))))

(defun rlm-node-assign-cells (node count)
  "Let the last COUNT code blocks of NODE's reply be its cells, in order.
Where the reply was broken off and asked for again, earlier ones are void.
A reply with fewer blocks than cells has none assigned."
  (let ((blocks (rlm-node-blocks node)))
    (when (>= (length blocks) count)
      (let ((number count))
        (dolist (block (seq-take blocks count))
          (setf (alist-get number (rlm-node-cells node))
                (rlm-cell--make :place (rlm-block-after block)))
          (cl-decf number)))
      (dolist (block (seq-drop blocks count))
        (set-marker (rlm-block-after block) nil)))
    (setf (rlm-node-blocks node) nil)))

(defun rlm-cell-print (node cell stream text)
  "Show TEXT, which CELL of NODE has printed on STREAM."
  (unless (rlm-cell-block cell)
    (setf (rlm-cell-block cell)
          (rlm-block-open node (rlm-cell-place cell)
                          "#+RESULTS:\n#+begin_example" "#+end_example"
                          (rlm-org-block-filter rlm-line-limit))))
  (cl-incf (rlm-cell-received cell) (length text))
  (unless (equal stream (rlm-cell-stream cell))
    (setf (rlm-cell-stream cell) stream)
    (setq text (concat (rlm-cell--line-break cell) text)))
  (let* ((room (max 0 (- rlm-output-limit (rlm-cell-shown cell))))
         (now (substring text 0 (min room (length text))))
         (rest (substring text (length now))))
    (cl-incf (rlm-cell-shown cell) (length now))
    (rlm-block-write node (rlm-cell-block cell) now)
    (unless (string-empty-p rest)
      (rlm-cell--keep-tail cell rest))))

(defun rlm-cell--line-break (cell)
  "Return a newline if the results of CELL end within a line."
  (let ((filter (rlm-block-filter (rlm-cell-block cell))))
    (if (and (rlm-org-filter-bol filter) (string-empty-p (rlm-org-filter-held filter)))
        ""
      "\n")))

(defun rlm-cell--keep-tail (cell text)
  "Keep the end of what CELL has printed, to which TEXT belongs."
  (let ((tail (concat (rlm-cell-tail cell) text))
        (most (/ rlm-output-limit 4)))
    (setf (rlm-cell-tail cell)
          (substring tail (max 0 (- (length tail) most))))))

(defun rlm-cell-close (node cell &optional total)
  "End the results of CELL of NODE, which has printed TOTAL characters."
  (when-let ((block (rlm-cell-block cell)))
    (let* ((tail (rlm-cell-tail cell))
           (total (max (or total 0) (rlm-cell-received cell)))
           (hidden (- total (rlm-cell-shown cell) (length tail))))
      (when (> hidden 0)
        (setq tail (format "\n[... %s of %s characters left out ...]\n%s"
                           (rlm-figure-number hidden) (rlm-figure-number total) tail)))
      (rlm-block-write node block tail)
      (rlm-block-close node block)
      (set-marker (rlm-cell-place cell) (rlm-block-after block))
      (setf (rlm-cell-block cell) nil))))

(defun rlm-node-close (node)
  "End everything that is being written in NODE."
  (rlm-node-end-part node)
  (pcase-dolist (`(,_ . ,cell) (rlm-node-cells node))
    (rlm-cell-close node cell)
    (set-marker (rlm-cell-place cell) nil))
  (setf (rlm-node-cells node) nil))

;;;; Folding

(defvar rlm-node-followers nil
  "Windows that will be moved to the end of the buffer after drawing.")

(defun rlm-node-fold (node)
  "Fold NODE, unless someone is reading in it."
  (let ((beg (marker-position (rlm-node-start node)))
        (end (marker-position (rlm-node-end node))))
    (unless (seq-some (lambda (window)
                        (and (not (memq window rlm-node-followers))
                             (< beg (window-point window) end)))
                      (get-buffer-window-list nil nil t))
      (save-excursion
        ;; By the markers, for Org would parse the subtree to find its end.
        (goto-char end)
        (skip-chars-backward "\n")
        (let ((to (point)))
          (goto-char beg)
          (when (< (line-end-position) to)
            (rlm-node--flag (line-end-position) to t 'outline)
            (rlm-node--forget-colours (line-end-position) to)))))))

(defun rlm-node--forget-colours (from to)
  "Let go of the faces between FROM, an end of a line, and TO, which are hidden.
They come back when the text is shown.  Those of a long run would be a
burden to each garbage collection."
  (with-silent-modifications
    (remove-list-of-text-properties
     (1+ from) to '(fontified face font-lock-fontified font-lock-multiline mouse-face
                    help-echo keymap htmlize-link org-emphasis org-no-flyspell src-block))))

(defconst rlm-node--folds
  '(outline org-fold-outline org-fold-drawer org-hide-drawer org-fold-block org-hide-block)
  "What hides text that is folded.")

(defun rlm-node--fold-p (place)
  "Return non-nil if the text at PLACE is hidden by a fold."
  (memq (get-char-property place 'invisible) rlm-node--folds))

(defun rlm-node--next-fold-change (place end)
  "Return where after PLACE a fold begins or ends, at most END."
  (let ((folded (rlm-node--fold-p place)))
    (while (and (< (setq place (next-single-char-property-change place 'invisible nil end)) end)
                (eq (null folded) (null (rlm-node--fold-p place)))))
    place))

(defun rlm-node-fontify (beg end &optional loudly)
  "Fontify what is not folded between BEG and END, for font-lock; LOUDLY is its own.
Emacs asks for hundreds of characters after each heading, folded or not.
What is folded is left for the time when it is shown, but for the newline
before it, at which Emacs would ask again whenever it shows the heading."
  (let ((place beg) bounds)
    (while (< place end)
      (let ((next (rlm-node--next-fold-change place end)))
        (if (rlm-node--fold-p place)
            (with-silent-modifications
              (put-text-property (min (1+ place) next) next 'fontified nil))
          (setq bounds (font-lock-default-fontify-region place next loudly)))
        (setq bounds (and (= place beg) (= next end) bounds)
              place next)))
    bounds))

(defun rlm-node-folded-p (node)
  "Return non-nil if the text of NODE is hidden."
  (save-excursion
    (goto-char (rlm-node-start node))
    (invisible-p (line-end-position))))

(provide 'rlm-node)
;;; rlm-node.el ends here
