;;; rlm-node-blocks.el --- Blocks whose text is being written, and what code prints  -*- lexical-binding: t; -*-

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

;; A block is closed when it is opened, and its text goes in before its last
;; line: the buffer is valid Org at every moment.

;;; Code:

(require 'cl-lib)
(require 'rlm-fold)
(require 'rlm-org)
(require 'rlm-run)
(require 'rlm-node)

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

;;;; Blocks

(cl-defstruct (rlm-block (:constructor rlm-block--make) (:copier nil))
  "A block whose text is being written."
  at                          ; marker before its last line
  after                       ; marker after its last line
  filter)

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
    (rlm-fold-delete at (1+ at))
    (set-marker at nil)))

(defun rlm-block-beginning (block line)
  "Return where BLOCK, which has been closed, begins with LINE."
  (save-excursion
    (goto-char (rlm-block-after block))
    (re-search-backward (concat "^" (regexp-quote line) "$"))))

(defun rlm-node-example (node text)
  "Append TEXT to NODE as an example block."
  (rlm-node-insert node (rlm-node-body node)
                   (concat (rlm-node-fresh-line (rlm-node-body node)) "#+begin_example\n"
                           (rlm-org-block text rlm-line-limit) "#+end_example\n")))

;;;; Cells

(cl-defstruct (rlm-cell (:constructor rlm-cell--make) (:copier nil))
  "A piece of code that runs, and what it prints."
  place                       ; marker where its results go
  block                       ; block of the results, or nil
  (stream nil)
  (shown 0) (received 0) (tail ""))

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

(provide 'rlm-node-blocks)
;;; rlm-node-blocks.el ends here
