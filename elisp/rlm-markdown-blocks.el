;;; rlm-markdown-blocks.el --- The blocks that Markdown consists of  -*- lexical-binding: t; -*-

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

;; `rlm-markdown-take' takes the first block from a list of lines.  A block
;; is a cons:
;;
;;   (paragraph . TEXT)  (heading LEVEL . TEXT)  (rule)
;;   (code INFO . LINES)  (html . LINES)  (math . LINES)
;;   (quote . BLOCKS)  (footnote LABEL . BLOCKS)
;;   (list :start NUMBER-OR-NIL :tight BOOLEAN :items ((BOX . BLOCKS) ...))
;;   (table ALIGNS . ROWS)  (definition)
;;
;; The text in them is read by rlm-markdown-inline.el.  Where models are
;; known to indent the items of inner lists by less than CommonMark wants,
;; that is taken as it is meant.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm-markdown-inline)

;;;; Lines

(defconst rlm-markdown--item
  "\\`\\([ \t]*\\)\\(?:\\([-+*]\\)\\|\\([0-9]\\{1,9\\}\\)\\([.)]\\)\\)\\([ \t]+\\|\\'\\)"
  "Regexp for the start of an item: indentation, bullet, number, its sign, blanks.")

(defconst rlm-markdown--rule
  "\\` \\{0,3\\}\\(?:\\(?:\\*[ \t]*\\)\\{3,\\}\\|\\(?:-[ \t]*\\)\\{3,\\}\\|\\(?:_[ \t]*\\)\\{3,\\}\\)\\'"
  "Regexp for a line that is a rule.")

(defconst rlm-markdown--heading
  "\\` \\{0,3\\}\\(#\\{1,6\\}\\)\\(?:[ \t]+\\(.*?\\)\\)?\\(?:[ \t]+#+\\)?[ \t]*\\'"
  "Regexp for a heading: its signs and its text.")

(defconst rlm-markdown--html
  (concat "\\` \\{0,3\\}<\\(?:!--\\|/?"
          (regexp-opt '("address" "article" "aside" "blockquote" "body" "center" "dd" "details"
                        "dialog" "dir" "div" "dl" "dt" "fieldset" "figcaption" "figure" "footer"
                        "form" "h1" "h2" "h3" "h4" "h5" "h6" "head" "header" "hr" "html" "iframe"
                        "li" "link" "main" "menu" "nav" "ol" "optgroup" "option" "p" "pre"
                        "script" "section" "style" "summary" "table" "tbody" "td" "textarea"
                        "tfoot" "th" "thead" "title" "tr" "ul"))
          "\\(?:[ \t/>]\\|\\'\\)\\)")
  "Regexp for the first line of a block of HTML.")

(defun rlm-markdown--sign (line)
  "Return the first character of LINE that is neither space nor tab, or nil."
  (let ((pos 0) (end (length line)))
    (while (and (< pos end) (memq (aref line pos) '(?\s ?\t)))
      (setq pos (1+ pos)))
    (and (< pos end) (aref line pos))))

(defun rlm-markdown-blank-p (line)
  "Return non-nil if LINE is blank."
  (let ((sign (rlm-markdown--sign line)))
    (or (null sign)
        (and (not (< ?\s sign 127)) (string-blank-p line)))))

(defun rlm-markdown--special-p (line)
  "Return non-nil if the first sign of LINE may begin more than a paragraph.
Most lines have no such sign.  To ask each of the regexps below makes garbage,
for Emacs keeps few of them compiled."
  (memq (rlm-markdown--sign line)
        '(?* ?- ?+ ?_ ?0 ?1 ?2 ?3 ?4 ?5 ?6 ?7 ?8 ?9 ?# ?> ?` ?~ ?< ?\[ ?$ ?\\)))

(defun rlm-markdown--indent (line)
  "Return by how many columns LINE is indented."
  (let ((column 0) (pos 0))
    (while (and (< pos (length line)) (memq (aref line pos) '(?\s ?\t)))
      (setq column (if (eq (aref line pos) ?\t) (* 4 (1+ (/ column 4))) (1+ column))
            pos (1+ pos)))
    column))

(defun rlm-markdown-unindented (line columns)
  "Return LINE without the first COLUMNS of its indentation, or all there is."
  (let ((column 0) (pos 0))
    (while (and (< pos (length line)) (< column columns) (memq (aref line pos) '(?\s ?\t)))
      (setq column (if (eq (aref line pos) ?\t) (* 4 (1+ (/ column 4))) (1+ column))
            pos (1+ pos)))
    (concat (make-string (max 0 (- column columns)) ?\s) (substring line pos))))

(defun rlm-markdown-fence-start (line)
  "Return ((SIGN LENGTH INDENT) . INFO) if LINE begins a fence, or nil."
  (when (and (memq (rlm-markdown--sign line) '(?` ?~))
             (string-match "\\`\\( \\{0,3\\}\\)\\(?:\\(```+\\)[ \t]*\\([^`]*\\)\\|\\(~~~+\\)[ \t]*\\(.*\\)\\)\\'"
                           line))
    (let ((sign (or (match-string 2 line) (match-string 4 line))))
      (cons (list (aref sign 0) (length sign) (length (match-string 1 line)))
            (or (match-string 3 line) (match-string 5 line))))))

(defun rlm-markdown-fence-end-p (line fence)
  "Return non-nil if LINE ends FENCE, a list (SIGN LENGTH INDENT)."
  (string-match-p (format "\\`[ \t]*%c\\{%d,\\}[ \t]*\\'" (car fence) (nth 1 fence)) line))

(defun rlm-markdown-definition (line)
  "Return (LABEL . ADDRESS) if LINE is where a reference link leads, or nil."
  (when (string-match "\\` \\{0,3\\}\\[\\([^][^][^][]*\\)\\]:[ \t]+<?\\([^ \t<>]+\\)>?\\(?:[ \t]+[\"'(].*\\)?[ \t]*\\'"
                      line)
    (cons (rlm-markdown-label (match-string 1 line)) (match-string 2 line))))

(defun rlm-markdown--starts-p (line)
  "Return non-nil if LINE begins a block even after the line of a paragraph."
  (and (rlm-markdown--special-p line)
       (< (rlm-markdown--indent line) 4)
       (or (string-match-p rlm-markdown--heading line)
           (rlm-markdown-fence-start line)
           (string-match-p "\\` *>" line)
           (string-match-p rlm-markdown--rule line)
           (string-match-p rlm-markdown--html line)
           (rlm-markdown--math-start line)
           (and (string-match rlm-markdown--item line)
                (< (match-beginning 5) (match-end 5))
                (or (match-string 2 line) (equal (match-string 3 line) "1"))))))

;;;; Blocks

(defconst rlm-markdown--deepest 12
  "How deep lists and quotations are nested at most; what is deeper is text.")

(defvar rlm-markdown--depth 0
  "How deep the lines that are read stand in lists and quotations.")

(defun rlm-markdown-skip-blank (lines)
  "Return LINES without the blank ones at their beginning."
  (while (and lines (rlm-markdown-blank-p (car lines)))
    (pop lines))
  lines)

(defun rlm-markdown-blocks (lines)
  "Return the blocks that LINES consist of."
  (let ((rlm-markdown--depth (1+ rlm-markdown--depth)) blocks)
    (if (> rlm-markdown--depth rlm-markdown--deepest)
        (list (cons 'html lines))
      (while (setq lines (rlm-markdown-skip-blank lines))
        (pcase-let ((`(,block . ,rest) (rlm-markdown-take lines t)))
          (push block blocks)
          (setq lines rest)))
      (nreverse blocks))))

(defun rlm-markdown-take (lines final)
  "Return the first block of LINES, the first of which isn't blank, and the rest.
That is a cons.  Nil means that the end of the block is not to be seen yet,
which can't be if LINES are FINAL."
  (let ((line (car lines)) end)
    (cond ((>= (rlm-markdown--indent line) 4) (rlm-markdown--take-indented lines final))
          ((not (rlm-markdown--special-p line)) (rlm-markdown--take-text lines final))
          ((rlm-markdown-fence-start line) (rlm-markdown--take-fenced lines final))
          ((string-match rlm-markdown--heading line)
           `((heading ,(length (match-string 1 line)) . ,(or (match-string 2 line) ""))
             . ,(cdr lines)))
          ((string-match-p rlm-markdown--rule line) (cons '(rule) (cdr lines)))
          ((string-match-p "\\` *>" line) (rlm-markdown--take-quote lines final))
          ((string-match-p rlm-markdown--item line) (rlm-markdown--take-list lines final))
          ((string-match-p rlm-markdown--html line) (rlm-markdown--take-html lines final))
          ((setq end (rlm-markdown--math-start line))
           (rlm-markdown--take-math lines end final))
          ((string-match "\\`\\[\\^\\([[:alnum:]_-]+\\)\\]:[ \t]*\\(.*\\)\\'" line)
           (rlm-markdown--take-footnote (match-string 1 line) (match-string 2 line)
                                        (cdr lines) final))
          ((rlm-markdown-definition line) (cons '(definition) (cdr lines)))
          (t (rlm-markdown--take-text lines final)))))

(defun rlm-markdown--take-text (lines final)
  "Take a table or a paragraph from LINES; FINAL is as in `rlm-markdown-take'."
  (if (rlm-markdown-aligns lines)
      (rlm-markdown--take-table lines final)
    (rlm-markdown--take-paragraph lines final)))

(defun rlm-markdown--take-while (lines predicate final)
  "Return a cons of the first LINES that meet PREDICATE, and the rest.
Return nil if all do and they are not FINAL."
  (let (taken)
    (while (and lines (funcall predicate (car lines)))
      (push (pop lines) taken))
    (when (or lines final)
      (cons (nreverse taken) lines))))

(defun rlm-markdown--take-indented (lines final)
  "Take code that is indented from LINES; FINAL is as in `rlm-markdown-take'."
  (pcase (rlm-markdown--take-while
          lines (lambda (line) (or (string-blank-p line) (>= (rlm-markdown--indent line) 4)))
          final)
    (`(,code . ,rest)
     (let ((code (mapcar (lambda (line) (rlm-markdown-unindented line 4)) code)))
       (cons `(code nil . ,(nreverse (seq-drop-while #'string-blank-p (nreverse code)))) rest)))))

(defun rlm-markdown--take-fenced (lines final)
  "Take code in a fence from LINES; FINAL is as in `rlm-markdown-take'."
  (pcase-let ((`(,fence . ,info) (rlm-markdown-fence-start (car lines))))
    (pcase (rlm-markdown--take-while
            (cdr lines) (lambda (line) (not (rlm-markdown-fence-end-p line fence))) final)
      (`(,code . ,rest)
       (cons `(code ,info . ,(mapcar (lambda (line)
                                       (rlm-markdown-unindented line (nth 2 fence)))
                                     code))
             (cdr rest))))))

(defun rlm-markdown--take-quote (lines final)
  "Take a quotation from LINES; FINAL is as in `rlm-markdown-take'."
  (let (lazy)
    (pcase (rlm-markdown--take-while
            lines (lambda (line)
                    (cond ((string-match "\\` \\{0,3\\}>[ \t]*\\(.*\\)" line)
                           (setq lazy (not (or (string-blank-p (match-string 1 line))
                                               (rlm-markdown--starts-p (match-string 1 line)))))
                           t)
                          (t (and lazy (not (string-blank-p line))
                                  (not (rlm-markdown--starts-p line))))))
            final)
      (`(,quoted . ,rest)
       (cons `(quote . ,(rlm-markdown-blocks
                         (mapcar (lambda (line)
                                   (replace-regexp-in-string "\\` \\{0,3\\}> ?" "" line))
                                 quoted)))
             rest)))))

(defun rlm-markdown--take-html (lines final)
  "Take HTML from LINES; FINAL is as in `rlm-markdown-take'."
  (let ((end (cond ((string-match-p "\\` *<!--" (car lines)) "-->")
                   ((string-match "\\` *<\\(pre\\|script\\|style\\|textarea\\)\\b" (car lines))
                    (concat "</" (match-string 1 (car lines)) ">"))))
        ended)
    (pcase (rlm-markdown--take-while
            lines (if end
                      (lambda (line) (prog1 (not ended)
                                       (setq ended (or ended (string-search end line)))))
                    (lambda (line) (not (string-blank-p line))))
            (or final ended))
      (`(,html . ,rest) (cons (cons 'html html) rest))
      ((guard ended) (cons (cons 'html lines) nil)))))

(defun rlm-markdown--math-start (line)
  "Return the regexp for the end of mathematics that begins with LINE, or nil."
  (and (string-match "\\` \\{0,3\\}\\(?:\\(\\$\\$\\)\\|\\(\\\\\\[\\)\\|\\\\begin{\\([a-z]+\\*?\\)}\\)\\(.*\\)"
                     line)
       (let ((end (cond ((match-string 1 line) "\\$\\$")
                        ((match-string 2 line) "\\\\\\]")
                        (t (format "\\\\end{%s}[ \t]*\\'" (regexp-quote (match-string 3 line)))))))
         (unless (string-match-p end (match-string 4 line))
           end))))

(defun rlm-markdown--take-math (lines end final)
  "Take mathematics up to the regexp END from LINES.
FINAL is as in `rlm-markdown-take'.  Without an end it is a paragraph."
  (pcase (rlm-markdown--take-while
          (cdr lines) (lambda (line) (not (or (string-blank-p line) (string-match-p end line))))
          final)
    ((and `(,inner . ,rest)
          (guard (and rest (string-match-p end (car rest))
                      ;; Org would end it there.
                      (not (and (equal end "\\$\\$")
                                (seq-some (lambda (line) (string-search "\\]" line))
                                          (cons (car lines) inner)))))))
     (let* ((last (car rest))
            (open (and (equal end "\\$\\$") (string-match end last)
                       (substring last (match-end 0)))))
       (cons `(math ,(replace-regexp-in-string "\\` *\\$\\$" "\\[" (car lines) t t) ,@inner
                    ,(if open (concat (substring last 0 (match-beginning 0)) "\\]") last))
             ;; What stands behind it is text.
             (if (string-blank-p (or open "")) (cdr rest) (cons (string-trim open) (cdr rest))))))
    (`(,inner . ,rest)
     (cons (cons 'paragraph (string-join (cons (car lines) inner) "\n")) rest))))

(defun rlm-markdown--take-footnote (label text lines final)
  "Take the footnote LABEL, whose first line is TEXT, and the others in LINES.
FINAL is as in `rlm-markdown-take'."
  (let ((near t))
    (pcase (rlm-markdown--take-while
            lines (lambda (line)
                    (cond ((string-blank-p line) (not (setq near nil)))
                          ((>= (rlm-markdown--indent line) 2))
                          (t (and near (not (rlm-markdown--starts-p line))
                                  (not (string-match-p "\\`\\[[^]]+\\]:" line))))))
            final)
      (`(,more . ,rest)
       (cons `(footnote ,label . ,(rlm-markdown-blocks
                                   (cons text (mapcar (lambda (line)
                                                        (rlm-markdown-unindented line 4))
                                                      more))))
             rest)))))

(defun rlm-markdown--underline (line)
  "Return the level of the heading that LINE ends below its text, or nil."
  (let ((sign (rlm-markdown--sign line)))
    (and (memq sign '(?= ?-))
         (string-match-p "\\` \\{0,3\\}\\(?:=+\\|-+\\)[ \t]*\\'" line)
         (if (eq sign ?=) 1 2))))

(defun rlm-markdown--take-paragraph (lines final)
  "Take a paragraph from LINES; FINAL is as in `rlm-markdown-take'."
  (let ((text (list (string-trim-left (car lines)))) (rest (cdr lines)) level)
    (while (and rest (not level)
                (not (rlm-markdown-blank-p (car rest)))
                (not (setq level (rlm-markdown--underline (car rest))))
                (not (rlm-markdown--starts-p (car rest)))
                (not (rlm-markdown-aligns rest)))
      (push (string-trim-left (pop rest)) text))
    (when (or final (cdr rest) (and rest (or level (not (string-search "|" (car rest))))))
      (let ((text (if (cdr text) (string-join (nreverse text) "\n") (car text))))
        (if level
            `((heading ,level . ,text) . ,(cdr rest))
          (cons (cons 'paragraph text) rest))))))

;;;; Lists

(defun rlm-markdown--marker (line)
  "Return (COLUMN CONTENT-COLUMN TYPE NUMBER REST) of LINE if it begins an item.
REST is the line behind the bullet or number."
  (when (and (string-match rlm-markdown--item line)
             (not (string-match-p rlm-markdown--rule line)))
    (let* ((column (rlm-markdown--indent line))
           (bullet (match-string 2 line))
           (number (match-string 3 line))
           (type (or bullet (match-string 4 line)))
           (width (if bullet 1 (1+ (length number))))
           (rest (substring line (match-beginning 5)))
           (blanks (rlm-markdown--indent rest))
           (gap (if (or (> blanks 4) (string-blank-p rest)) 1 blanks)))
      (list column (+ column width gap) type (and number (string-to-number number))
            (rlm-markdown-unindented rest gap)))))

(defun rlm-markdown--take-list (lines final)
  "Take a list from LINES; FINAL is as in `rlm-markdown-take'."
  (pcase-let ((`(,column ,content ,type ,number ,text) (rlm-markdown--marker (car lines)))
              (rest (cdr lines)) (item nil) (items nil) (blank nil) (fence nil) (ended nil))
    (setq item (list text)
          fence (rlm-markdown--fence-after nil text))
    (while (and rest (not ended))
      (let* ((line (car rest))
             (indent (rlm-markdown--indent line))
             (marker (and (not fence) (rlm-markdown--marker line))))
        (cond ((string-blank-p line) (push "" item))
              ((and fence (>= indent column)) (push (rlm-markdown-unindented line content) item))
              ((and marker (< (car marker) (+ column 2)))
               (if (not (equal (nth 2 marker) type))
                   (setq ended t)
                 (push (nreverse item) items)
                 (setq item (list (nth 4 marker))
                       column (car marker)
                       content (nth 1 marker))))
              ((or marker (>= indent content)
                   (and (not blank) (not (rlm-markdown--starts-p line))))
               (push (rlm-markdown-unindented line content) item))
              (t (setq ended t)))
        (unless ended
          (setq blank (string-blank-p line)
                fence (rlm-markdown--fence-after fence (car item)))
          (pop rest))))
    (when (or ended final)
      (push (nreverse item) items)
      (cons (rlm-markdown--list number (nreverse items)) rest))))

(defun rlm-markdown--fence-after (fence line)
  "Return the fence in which one is after LINE, having been in FENCE or nil."
  (cond ((null fence) (car (rlm-markdown-fence-start line)))
        ((rlm-markdown-fence-end-p line fence) nil)
        (t fence)))

(defun rlm-markdown--list (number items)
  "Return the list that begins with NUMBER, if any, and has ITEMS, lists of lines."
  (let ((loose (seq-some (lambda (item)
                           (equal (car (last item)) ""))
                         (butlast items)))
        (parsed (mapcar #'rlm-markdown--list-item items)))
    (list 'list :start number :items parsed
          :tight (not (or loose (seq-some (lambda (item)
                                            (< 1 (seq-count (lambda (block)
                                                              (eq (car block) 'paragraph))
                                                            (cdr item))))
                                          parsed))))))

(defun rlm-markdown--list-item (lines)
  "Return the item that consists of LINES, as (BOX . BLOCKS)."
  (let ((box (and (string-match "\\`\\[\\([ xX]\\)\\]\\(?:[ \t]+\\|\\'\\)" (car lines))
                  (prog1 (upcase (match-string 1 (car lines)))
                    (setq lines (cons (substring (car lines) (match-end 0)) (cdr lines)))))))
    (cons box (rlm-markdown-blocks lines))))

(defun rlm-markdown-last-item (lines)
  "Return how many of LINES stand before the last item of the list they begin.
Return nil if they begin no list, or one with a single item."
  (when-let ((marker (and lines (rlm-markdown--marker (car lines)))))
    (let ((count 0) last)
      (dolist (line lines)
        (let ((other (rlm-markdown--marker line)))
          (when (and other (> count 0) (<= (car other) (car marker))
                     (equal (nth 2 other) (nth 2 marker)))
            (setq last count)))
        (setq count (1+ count)))
      last)))

;;;; Tables

(defun rlm-markdown-aligns (lines)
  "Return the alignments of the table that LINES begin with, or nil.
Each is nil, ?l, ?c or ?r."
  (when (and (cdr lines)
             (string-search "|" (car lines))
             (string-match-p "\\` \\{0,3\\}|?[ \t]*:?-+:?[ \t]*\\(?:|[ \t]*:?-+:?[ \t]*\\)*|?[ \t]*\\'"
                             (nth 1 lines)))
    (let ((cells (rlm-markdown--split-row (nth 1 lines))))
      (when (= (length cells) (length (rlm-markdown--split-row (car lines))))
        (mapcar (lambda (cell)
                  (pcase (list (string-prefix-p ":" cell) (string-suffix-p ":" cell))
                    ('(t t) ?c) ('(t nil) ?l) ('(nil t) ?r)))
                cells)))))

(defun rlm-markdown--split-row (line &optional code)
  "Return the cells of LINE, a row of a table.
With CODE non-nil, bars in code do not end a cell."
  (let* ((line (string-trim line))
         (line (string-remove-prefix "|" line))
         (regexp (if code "\\\\.\\|`[^`]*`\\||" "\\\\.\\||"))
         (start 0) (from 0) cells)
    (while (string-match regexp line start)
      (setq start (match-end 0))
      (when (eq (aref line (match-beginning 0)) ?|)
        (push (substring line from (match-beginning 0)) cells)
        (setq from start)))
    (unless (and cells (string-blank-p (substring line from)))
      (push (substring line from) cells))
    (mapcar (lambda (cell) (string-trim (string-replace "\\|" "|" cell))) (nreverse cells))))

(defun rlm-markdown-cells (line columns)
  "Return the cells of LINE, a row of a table, as many as it has COLUMNS.
A bar in code ends a cell by the letter of the rules, which models forget;
where there are too many cells then, it doesn't."
  (let ((cells (rlm-markdown--split-row line)))
    (when (> (length cells) columns)
      (setq cells (rlm-markdown--split-row line t)))
    (append (seq-take cells columns)
            (make-list (max 0 (- columns (length cells))) ""))))

(defun rlm-markdown--take-table (lines final)
  "Take a table from LINES; FINAL is as in `rlm-markdown-take'."
  (let* ((aligns (rlm-markdown-aligns lines))
         (columns (length aligns)))
    (pcase (rlm-markdown--take-while
            (cddr lines) (lambda (line)
                           (not (or (string-blank-p line) (rlm-markdown--starts-p line))))
            final)
      (`(,rows . ,rest)
       (cons `(table ,aligns . ,(mapcar (lambda (row) (rlm-markdown-cells row columns))
                                        (cons (car lines) rows)))
             rest)))))

(provide 'rlm-markdown-blocks)
;;; rlm-markdown-blocks.el ends here
