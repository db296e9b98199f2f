;;; rlm-node-parts.el --- The parts of a reply, as they come into a node  -*- lexical-binding: t; -*-

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

;; A reply has prose, code and reasoning, piece by piece.  Prose is Markdown:
;; what can't be converted yet is shown as it is, and what it becomes takes
;; its place.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-fold)
(require 'rlm-markdown)
(require 'rlm-org)
(require 'rlm-node)
(require 'rlm-node-blocks)
(require 'rlm-reader)

(defcustom rlm-convert-markdown t
  "Whether the Markdown that models write is shown as Org.
With nil it stays Markdown, but for fences and what would break the buffer."
  :group 'rlm
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

(defun rlm-node-prose (text)
  "Return TEXT, whole prose that a model has written, as a node would show it."
  (if rlm-convert-markdown
      (rlm-markdown-to-org text)
    (rlm-org-prose text)))

(defun rlm-node-write (node part text)
  "Append TEXT to NODE as PART.
That is `prose', which is Markdown, `plain' text, `code', `reasoning', or
`fence'.  Fences are not shown; they tell two pieces of code apart."
  (unless (eq part (rlm-node-part node))
    (rlm-node-end-part node)
    (setq text (if (eq part 'fence) "" (rlm-node--without-blank-start text)))
    (unless (string-empty-p text)
      (rlm-node--begin-part node part)))
  (cond ((null (rlm-node-part node)))
        ((memq part '(prose plain))
         (rlm-node--note-summary node text)
         (if (rlm-node-markdown node)
             (rlm-node--convert node (rlm-markdown-feed (rlm-node-markdown node) text) text)
           (rlm-node-append node (rlm-org-feed (rlm-node-filter node) text))))
        (t (rlm-block-write node (rlm-node-block node) text))))

(defun rlm-node--without-blank-start (text)
  "Return TEXT without newlines at its beginning."
  (let ((beg 0))
    (while (and (< beg (length text)) (eq (aref text beg) ?\n))
      (setq beg (1+ beg)))
    (if (zerop beg) text (substring text beg))))

(defun rlm-node--note-summary (node text)
  "Keep the start of NODE's prose, to which TEXT belongs, if it is an iteration."
  (let ((summary (rlm-node-summary node)))
    (when (and (rlm-node-begun node) (< (length summary) 300))
      (setf (rlm-node-summary node)
            (concat summary (substring text 0 (min 300 (length text))))))))

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
            (rlm-node--fold-reasoning (rlm-node-block node)))))
  (setf (rlm-node-part node) nil
        (rlm-node-filter node) nil
        (rlm-node-markdown node) nil
        (rlm-node-block node) nil))

(defun rlm-node--fold-reasoning (block)
  "Fold the drawer BLOCK, unless someone is reading in it."
  (let ((beg (rlm-block-beginning block ":REASONING:")))
    (unless (rlm-reader-between-p beg (rlm-block-after block))
      (rlm-fold-drawer beg))))

(defun rlm-node-paragraph (node text)
  "Append TEXT, which is no Markdown, to NODE as paragraphs of their own."
  (rlm-node-end-part node)
  (rlm-node-write node 'plain text)
  (rlm-node-end-part node))

(defun rlm-node-close (node)
  "End everything that is being written in NODE."
  (rlm-node-end-part node)
  (pcase-dolist (`(,_ . ,cell) (rlm-node-cells node))
    (rlm-cell-close node cell)
    (set-marker (rlm-cell-place cell) nil))
  (setf (rlm-node-cells node) nil))

;;;; Markdown
;; The marker REST is where the text begins that is not converted yet.

;; What can't be converted yet is shown as it is, unless more has come that
;; waits to be drawn; what it becomes takes its place.
(defvar-local rlm-node--unshown nil
  "Nodes whose rest may have to be shown.")

(defun rlm-node--convert (node work text)
  "Do the WORK that the converter of NODE gives, having been fed TEXT.
TEXT is nil at the end."
  (if (and (null work) text (rlm-node-rest node))
      (rlm-node-append node (rlm-org-feed (rlm-node-filter node) text))
    (when (rlm-node-rest node)
      (setq work (rlm-node--replace-rest node work)))
    (dolist (step work)
      (rlm-node--convert-step node step))
    (cl-pushnew node rlm-node--unshown)))

(defun rlm-node--convert-step (node step)
  "Take STEP of the converter in NODE."
  (pcase step
    (`(text . ,lines)
     (rlm-node-append node (rlm-org-lines (rlm-node-fresh-line (rlm-node-body node)) lines)))
    (`(more . ,lines)
     (rlm-node-append node (rlm-org-lines "" lines)))
    (`(open ,begin . ,end)
     (setf (rlm-node-block node)
           (rlm-block-open node (rlm-node-body node) begin end
                           (rlm-org-block-filter (max 10000 rlm-line-limit)))))
    (`(code . ,text) (rlm-block-write node (rlm-node-block node) text))
    (_ (rlm-block-close node (rlm-node-block node))
       (set-marker (rlm-block-after (rlm-node-block node)) nil)
       (setf (rlm-node-block node) nil))))

(defun rlm-node-show-rests ()
  "Show what has come for any node, also where it can't be converted yet."
  (dolist (node (prog1 rlm-node--unshown
                  (setq rlm-node--unshown nil)))
    (when-let ((converter (and (not (rlm-node-rest node)) (rlm-node-markdown node))))
      (let ((rest (rlm-markdown-rest converter)))
        (unless (string-blank-p rest)
          (rlm-node--show-rest node (rlm-node--without-blank-start rest)))))))

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
                 (rlm-org-lines (rlm-node-fresh-line (rlm-node-rest node)) lines))
                (_ "")))
         (same (rlm-node--same-lines old new)))
    (set-marker (rlm-node-rest node) nil)
    (setf (rlm-node-rest node) nil)
    (rlm-node-keep-fold node body
      (goto-char body)
      (let ((within (not (bolp))))
        (rlm-fold-delete (+ beg same) body)
        (goto-char body)
        (when (and within (bolp) (eq (char-after) ?\n))
          (rlm-fold-delete (point) (1+ (point)))))
      (rlm-node-append node (if (zerop same) new (substring new same))))
    work))

(defun rlm-node--same-lines (old new)
  "Return how many characters of whole lines are the same in OLD and NEW."
  (let* ((difference (compare-strings old nil nil new nil nil))
         (same (if (eq difference t) (length old) (1- (abs difference)))))
    (rlm-org-last-line (substring new 0 same))))

(provide 'rlm-node-parts)
;;; rlm-node-parts.el ends here
