;;; rlm-markdown-layout.el --- Blocks of Markdown as lines of Org  -*- lexical-binding: t; -*-

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

;; `rlm-markdown-layout' turns the blocks of rlm-markdown-blocks.el into
;; lines of Org.  Headings become lines in bold: those of the buffer are
;; the run's own.  Lists within lists, and what else stands in an item, are
;; indented by the width of the bullet.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm-org)
(require 'rlm-markdown-inline)
(require 'rlm-markdown-org)

;;;; Blocks

(defun rlm-markdown-layout (blocks &optional quotes)
  "Return BLOCKS, within so many QUOTES, as lines, with a blank line between them."
  (let (parts before)
    (dolist (block blocks)
      (when-let ((lines (rlm-markdown-layout-block block (or quotes 0))))
        (when before
          (push (rlm-markdown-layout--gap before block) parts))
        (push lines parts)
        (setq before block)))
    (apply #'append (nreverse parts))))

(defun rlm-markdown-layout--gap (before block)
  "Return the lines between the blocks BEFORE and BLOCK."
  (if (rlm-markdown-layout-far-p before block) '("" "") '("")))

(defun rlm-markdown-layout-far-p (before block)
  "Return non-nil if two blank lines have to stand between BEFORE and BLOCK.
Org takes two lists with one blank line between them for one."
  (and (eq (car before) 'list) (eq (car block) 'list)))

(defun rlm-markdown-layout-block (block quotes)
  "Return BLOCK, within so many QUOTES, as lines of Org."
  (pcase block
    (`(paragraph . ,text) (rlm-markdown-org-text (rlm-markdown-inline text)))
    (`(heading ,_ . ,text) (rlm-markdown-layout--heading text))
    (`(code ,language . ,lines) (rlm-markdown-layout--code-block language lines))
    (`(quote . ,blocks) (rlm-markdown-layout--quote blocks quotes))
    (`(list . ,plist) (rlm-markdown-layout--list plist quotes))
    (`(table ,aligns . ,rows) (rlm-markdown-layout--table aligns rows))
    (`(footnote ,label . ,blocks)
     (let ((lines (rlm-markdown-layout blocks quotes)))
       (cons (string-trim-right (format "[fn:%s] %s" label (or (car lines) ""))) (cdr lines))))
    ('(rule) (list "-----"))
    (`(html . ,lines)
     (mapcan (lambda (line)
               (let ((nodes (list (concat line))))
                 (if (string-blank-p line) (list "") (rlm-markdown-org-text nodes))))
             lines))
    (`(math . ,lines) (rlm-markdown-layout--math lines))))

(defun rlm-markdown-layout--heading (text)
  "Return TEXT, a heading, as a line of its own in bold."
  (unless (string-blank-p text)
    (rlm-markdown-org-text
     (list (cons 'strong (mapcan (lambda (node)
                                   (if (eq (car-safe node) 'strong)
                                       (copy-sequence (cdr node))
                                     (list node)))
                                 (rlm-markdown-inline text)))))))

(defconst rlm-markdown-layout--languages
  '(("py" . "python") ("python3" . "python") ("repl" . "python") ("javascript" . "js")
    ("cpp" . "C++") ("c++" . "C++") ("c" . "C") ("yml" . "yaml") ("elisp" . "emacs-lisp")
    ("zsh" . "sh") ("console" . "sh") ("shell-session" . "sh") ("golang" . "go")
    ("rs" . "rust") ("rb" . "ruby") ("md" . "markdown"))
  "Org's names of languages, where they are other ones.")

(defun rlm-markdown-layout-fence (info)
  "Return the first and the last line of the Org block for code.
INFO is what Markdown says of it, its language first."
  (let ((language (and (string-match "\\`[ {.]*\\([[:alnum:]_+-]+\\)" info)
                       (downcase (match-string 1 info)))))
    (if (member language '(nil "text" "txt" "plain" "plaintext" "output" "none"))
        '("#+begin_example" . "#+end_example")
      (cons (concat "#+begin_src " (or (cdr (assoc language rlm-markdown-layout--languages))
                                       language))
            "#+end_src"))))

(defun rlm-markdown-layout--code-block (info lines)
  "Return LINES, code of the kind INFO, as lines of a block."
  (pcase-let ((`(,begin . ,end) (rlm-markdown-layout-fence (or info ""))))
    `(,begin ,@(mapcar (lambda (line) (string-remove-suffix "\n" (rlm-org-block line)))
                       (or lines '("")))
             ,end)))

(defun rlm-markdown-layout--quote (blocks quotes)
  "Return BLOCKS as a quotation within so many QUOTES.
Blocks of one name can't be nested in Org, so inner ones have other names."
  (let ((name (if (zerop quotes) "quote" (format "quote-%d" (1+ quotes)))))
    `(,(concat "#+begin_" name)
      ,@(rlm-markdown-layout blocks (1+ quotes))
      ,(concat "#+end_" name))))

(defun rlm-markdown-layout--math (lines)
  "Return LINES of mathematics so that none of them means more to Org.
In an environment of LaTeX that is only a heading; elsewhere one line is made."
  (let ((lines (mapcar (lambda (line) (rlm-org-inline (string-trim line))) lines)))
    (cond ((string-prefix-p "\\begin{" (car lines))
           (mapcar (lambda (line)
                     (pcase (and (> (length line) 0) (aref line 0))
                       (?* (concat " " line))
                       ((or ?# ?:) (concat rlm-org-guard line)) ; no block, whatever ends it
                       (_ line)))
                   lines))
          ((seq-some (lambda (line) (string-match-p rlm-markdown-org-line-start line)) lines)
           (list (string-join lines " ")))
          (t lines))))

;;;; Lists

(defun rlm-markdown-layout--list (plist quotes)
  "Return the list that PLIST is about, within so many QUOTES, as lines."
  (let* ((number (plist-get plist :start))
         (tight (plist-get plist :tight))
         (start (and number (/= number 1) number))
         parts)
    (dolist (item (plist-get plist :items))
      (when (and parts (not tight))
        (push '("") parts))
      (push (rlm-markdown-layout--item item (if number (format "%d. " number) "- ")
                                    start tight quotes)
            parts)
      (setq start nil)
      (when number (cl-incf number)))
    (apply #'append (nreverse parts))))

(defun rlm-markdown-layout--item (item bullet start tight quotes)
  "Return ITEM, a cons of its box and its blocks, as lines that begin with BULLET.
START is the number to begin with, if it isn't 1; QUOTES is as elsewhere.
TIGHT means that no blank lines stand between its blocks."
  (pcase-let* ((`(,box . ,blocks) item)
               (head (concat bullet (and start (format "[@%d] " start))
                             (and box (format "[%s] " box))))
               (text-first (memq (car-safe (car blocks)) '(paragraph heading nil)))
               (lines (rlm-markdown-layout--item-blocks blocks tight quotes))
               (indent (make-string (length bullet) ?\s)))
    (when (and text-first lines)
      (setq head (concat head (rlm-markdown-layout--no-term (pop lines)))))
    (cons (string-trim-right head)
          (mapcar (lambda (line) (if (string-empty-p line) "" (concat indent line))) lines))))

(defun rlm-markdown-layout--item-blocks (blocks tight quotes)
  "Return BLOCKS of an item as lines, close together if TIGHT.
QUOTES is as elsewhere."
  (let (parts)
    (dolist (block blocks)
      (when-let ((lines (rlm-markdown-layout-block block quotes)))
        (when (and parts (not (and tight (not (eq (car block) 'paragraph)))))
          (push '("") parts))
        (push lines parts)))
    (apply #'append (nreverse parts))))

(defun rlm-markdown-layout--no-term (line)
  "Return LINE, the first of an item, so that Org sees no term in it."
  (if (string-search "::" line)
      (replace-regexp-in-string "\\([ \t]\\)\\(::\\)\\([ \t]\\|\\'\\)"
                                (concat "\\1" rlm-markdown-org-joiner "\\2\\3") line)
    line))

;;;; Tables

(defun rlm-markdown-layout--table (aligns rows)
  "Return ROWS, lists of cells, the head first, as a table with ALIGNS.
ALIGNS is a list of nil, ?l, ?c or ?r.  A head of nil has been shown before."
  (let* ((rows (mapcar (lambda (row) (mapcar #'rlm-markdown-layout--cell row)) rows))
         (cookies (when (and (car rows) (seq-some #'identity aligns))
                    (mapcar (lambda (align) (if align (format "<%c>" align) "")) aligns)))
         (widths (apply #'cl-mapcar #'max
                        (mapcar (lambda (row) (mapcar #'rlm-markdown-layout--width row))
                                (delq nil (cons cookies (copy-sequence rows))))))
         (line (lambda (row)
                 (concat "| " (string-join (cl-mapcar #'rlm-markdown-layout--padded row widths aligns)
                                           " | ")
                         " |"))))
    (append (when cookies (list (funcall line cookies)))
            (when (car rows)
              (list (funcall line (car rows))
                    (concat "|" (mapconcat (lambda (width) (make-string (+ width 2) ?-)) widths "+")
                            "|")))
            (mapcar line (cdr rows)))))

(defun rlm-markdown-layout--width (cell)
  "Return the columns of CELL, with links as wide as in Org."
  (string-width (if (string-search "[[" cell)
                    (replace-regexp-in-string
                     "\\[\\[[^][]*\\]\\[\\(.*?\\)\\]\\]" "\\1"
                     (replace-regexp-in-string "\\[\\[\\([^][]*\\)\\]\\]" "\\1" cell))
                  cell)))

(defun rlm-markdown-layout--padded (cell width align)
  "Return CELL padded to WIDTH, according to ALIGN."
  (let* ((room (max 0 (- width (rlm-markdown-layout--width cell))))
         (left (pcase align (?r room) (?c (/ room 2)) (_ 0))))
    (concat (make-string left ?\s) cell (make-string (- room left) ?\s))))

(defun rlm-markdown-layout--cell (text)
  "Return TEXT, the Markdown of a cell, as that of a cell in Org."
  (let ((text (string-join
               (rlm-markdown-org-text (rlm-markdown-layout--without-bars (rlm-markdown-inline text)))
               " ")))
    (string-remove-prefix rlm-org-guard (string-replace "|" "\\vert{}" text))))

(defun rlm-markdown-layout--without-bars (nodes)
  "Return NODES with each bar in text, or between pieces of code, as an entity."
  (mapcan (lambda (node)
            (pcase node
              (`(code . ,text)
               (cdr (mapcan (lambda (part)
                              (cons "\\vert{}" (unless (string-empty-p part) (list (cons 'code part)))))
                            (split-string text "|"))))
              (`(,(and kind (or 'strong 'emph 'strike)) . ,children)
               (list (cons kind (rlm-markdown-layout--without-bars children))))
              ((pred stringp) (list (string-replace "|" "\\vert{}" node)))
              (_ (list node))))
          nodes))

(provide 'rlm-markdown-layout)
;;; rlm-markdown-layout.el ends here
