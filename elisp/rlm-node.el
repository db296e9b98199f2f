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
;; markers of its own, so that no text gets into that of another.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'org)
(require 'rlm-fold)
(require 'rlm-org)
(require 'rlm-reader)

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

(defvar-local rlm-node-table nil
  "Hash table of this buffer's nodes by id.")

;;;; Text

(defmacro rlm-node-keep-fold (node marker &rest body)
  "Evaluate BODY for a new text of NODE, a symbol, before MARKER, another.
If NODE is folded, what is there after that is hidden."
  (declare (indent 2) (debug (symbolp symbolp body)))
  ;; A closure for each piece of text would be as big as the piece.
  (let ((folded (make-symbol "folded")))
    `(let ((,folded (rlm-node--folded-to-p ,node ,marker)))
       ,@body
       (when ,folded
         (save-excursion
           (rlm-node--hide ,node ,marker))))))

(defun rlm-node-insert (node marker text)
  "Insert TEXT at MARKER, which is in NODE, and move MARKER behind it."
  (unless (string-empty-p text)
    (rlm-node-keep-fold node marker
      (goto-char marker)
      (rlm-fold-insert text)
      (set-marker marker (point))
      (rlm-node--reach (rlm-node-body node))
      (rlm-node--extend node))))

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
             (rlm-fold-insert "\n")))
          ((and within (eq (char-after) ?\n))
           (rlm-fold-delete (point) (1+ (point)))))))

(defun rlm-node-fresh-line (marker)
  "Return what has to be inserted at MARKER for a blank line before it."
  (save-excursion
    (goto-char marker)
    (cond ((not (bolp)) "\n\n")
          ((progn (forward-line -1) (looking-at-p "[ \t]*$\\|:END:$")) "")
          (t "\n"))))

;;;; Nodes

;; Emacs keeps 20 regexps compiled.  Where more are used again and again, each
;; is compiled each time, so what is simple is looked for without.
(defun rlm-node-id-above (id)
  "Return the id of the node above ID."
  (let ((end (1- (length id))))
    (while (and (> end 0) (/= (aref id end) ?.))
      (setq end (1- end)))
    (substring id 0 end)))

(defun rlm-node--numbered-p (id)
  "Return non-nil if ID is numbers with points between, and not the run itself."
  (let ((pos (length id)))
    (while (and (> pos 0) (or (<= ?0 (aref id (1- pos)) ?9) (eq (aref id (1- pos)) ?.)))
      (setq pos (1- pos)))
    (and (zerop pos) (string-prefix-p "0." id))))

(defun rlm-node-add (id parent title &optional properties)
  "Add a node ID with a heading TITLE and PROPERTIES at the end of PARENT.
PARENT is nil for the run itself."
  (let* ((level (if parent (1+ (rlm-node-level parent)) 1))
         (beg (if parent (marker-position (rlm-node-end parent)) (point-max))))
    (goto-char beg)
    (unless (bolp)
      (rlm-fold-insert "\n")
      (setq beg (point)))
    (rlm-fold-show-newline)
    (let ((folded (and parent (rlm-node--folded-to-p parent beg)))
          (node (rlm-node--make
                 :id id :level level :parent parent
                 :properties (when (rlm-node--numbered-p id)
                               (list (cons "RLM_NODE" id))))))
      (rlm-fold-insert (concat (make-string level ?*) " " title "\n"))
      (setf (rlm-node-start node) (copy-marker beg t)
            (rlm-node-drawer node) (copy-marker (point))
            (rlm-node-body node) (copy-marker (point))
            (rlm-node-end node) (copy-marker (point)))
      (rlm-node--extend parent)
      (when folded
        (save-excursion
          (rlm-node--hide parent (point))))
      (puthash id node rlm-node-table)
      (when properties
        (rlm-node-set node properties))
      node)))

(defvar-local rlm-node--unlisted nil
  "Nodes with properties that their drawers do not show yet.")

(defun rlm-node-note (node properties)
  "Note PROPERTIES, an alist, of NODE; nil values are left out.
Its drawer shows them when all that has come is drawn, or sooner."
  (let ((all (rlm-node-properties node)))
    (pcase-dolist (`(,name . ,value) properties)
      (when value
        (setf (alist-get name all nil nil #'equal)
              (rlm-org-line (if (stringp value) value (format "%s" value)) 500))))
    (setf (rlm-node-properties node) all))
  (cl-pushnew node rlm-node--unlisted))

(defun rlm-node-set (node properties)
  "Set PROPERTIES, an alist, of NODE in its drawer; nil values are left out."
  (rlm-node-note node properties)
  (rlm-node--list-properties node))

(defun rlm-node--list-properties (node)
  "Let the drawer of NODE show all its properties."
  (setq rlm-node--unlisted (delq node rlm-node--unlisted))
  (let ((drawer (rlm-node-drawer node)))
    (rlm-fold-delete drawer (+ drawer (rlm-node-drawer-length node)))
    (let ((text (concat ":PROPERTIES:\n"
                        (mapconcat (lambda (entry) (format ":%s: %s\n" (car entry) (cdr entry)))
                                   (reverse (rlm-node-properties node)) "")
                        ":END:\n"))
          (beg (marker-position drawer)))
      (setf (rlm-node-drawer-length node) (length text))
      (rlm-node-insert node drawer text)
      (set-marker drawer beg)
      (rlm-fold-drawer beg))))

(defun rlm-node-show-properties ()
  "Let all drawers show what was noted for them."
  (while rlm-node--unlisted
    (rlm-node--list-properties (car rlm-node--unlisted))))

(defun rlm-node-retitle (node text)
  "Append TEXT to the heading of NODE."
  (save-excursion
    (goto-char (rlm-node-start node))
    (let ((hidden (invisible-p (point)))
          (end (line-end-position)))
      (goto-char end)
      (rlm-fold-insert text)
      (cond (hidden (rlm-node--hide node (point)))
            ;; What Org leaves of a fold that it has cut takes in what is inserted before it.
            ((invisible-p end) (rlm-fold-region end (point) nil 'outline))))))

(defun rlm-node-release (node)
  "Let go of NODE, to which nothing will be added, and of its markers."
  (when (memq node rlm-node--unlisted)
    (rlm-node--list-properties node))
  (dolist (marker (list (rlm-node-start node) (rlm-node-drawer node)
                        (rlm-node-body node) (rlm-node-end node)))
    (set-marker marker nil))
  (remhash (rlm-node-id node) rlm-node-table))

;;;; Folding

(defvar rlm-node-fold-anew nil
  "Non-nil while a subtree is changed that will be folded anew after that.")

(defun rlm-node--folded-to-p (node place)
  "Return non-nil if NODE is folded, and all of it is hidden up to PLACE.
What is added there is to be hidden too, unless NODE is folded anew after."
  (unless rlm-node-fold-anew
    (save-excursion
      (goto-char (rlm-node-start node))
      (let ((beg (if (invisible-p (point)) (point) (line-end-position))))
        (when (invisible-p beg)
          (goto-char place)
          (skip-chars-backward "\n")    ; those may be shown
          (>= (rlm-fold--next-change beg place) (point)))))))

(defun rlm-node--hide (node place)
  "Hide what follows the heading of NODE up to PLACE."
  (rlm-fold-heading (rlm-node-start node) place))

(defun rlm-node-fold (node)
  "Fold NODE, unless someone is reading below its heading."
  (let ((beg (marker-position (rlm-node-start node)))
        (end (marker-position (rlm-node-end node))))
    (save-excursion
      (goto-char beg)
      (unless (rlm-reader-between-p (line-end-position) end)
        ;; By the markers, for Org would parse the subtree to find its end.
        (rlm-node--hide node end)))))

(defun rlm-node-folded-p (node)
  "Return non-nil if the text of NODE is hidden."
  (save-excursion
    (goto-char (rlm-node-start node))
    (invisible-p (line-end-position))))

(provide 'rlm-node)
;;; rlm-node.el ends here
