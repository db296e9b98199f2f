;;; rlm-org.el --- Model text as harmless Org text  -*- lexical-binding: t; -*-

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

;; What a model writes arrives in pieces, is often Markdown, and may say
;; anything.  The two filters here turn such a stream into Org text that
;; can't break the structure around it, whatever it says and however it
;; was cut: one for prose, one for what stands in a block.
;;
;; A filter is made by `rlm-org-prose-filter' or `rlm-org-block-filter',
;; fed with `rlm-org-feed', and ended with `rlm-org-finish'; both return
;; the text that can be inserted now.  Nothing here touches a buffer.

;;; Code:

(require 'cl-lib)
(require 'subr-x)

(defconst rlm-org-guard "\u200b"
  "The zero-width space, which Org recommends as its escape character.")

(cl-defstruct (rlm-org-filter (:constructor rlm-org--make) (:copier nil))
  "A stream of text on its way into an Org buffer."
  kind                                  ; `prose' or `block'
  (held "")                             ; text that can't be decided yet
  (bol t)                               ; non-nil at the start of a line
  fence                                 ; (SIGN LENGTH CLOSING) within a fence
  (column 0)                            ; characters of the line so far
  limit)                                ; longest line, or nil

(defconst rlm-org--prose-line 4000
  "Prose lines longer than this are broken at a blank.")

(defun rlm-org-prose-filter ()
  "Return a filter for prose, which may be Markdown."
  (rlm-org--make :kind 'prose))

(defun rlm-org-block-filter (&optional limit)
  "Return a filter for the text of an Org block.
Lines are cut at LIMIT characters, if that is non-nil."
  (rlm-org--make :kind 'block :limit limit))

;;;; Feeding

(defun rlm-org-feed (filter text)
  "Give TEXT to FILTER; return what can be inserted of it now."
  (let* ((text (rlm-org-plain (rlm-org-joined (rlm-org-filter-held filter) text)))
         (end (rlm-org-last-line text))
         (rest (substring text end)))
    (setf (rlm-org-filter-held filter) "")
    (if (rlm-org--harmless-p filter text)
        (let ((column (rlm-org-filter-column filter)))
          (when (> end 0)
            (setf (rlm-org-filter-bol filter) t
                  (rlm-org-filter-column filter) 0))
          (let ((shown (rlm-org--showable filter rest)))
            (setf (rlm-org-filter-held filter) (substring rest shown))
            (when (> shown 0)
              (setf (rlm-org-filter-bol filter) nil
                    (rlm-org-filter-column filter)
                    (+ shown (if (> end 0) 0 column))))
            (if (= (+ end shown) (length text)) text
              (substring text 0 (+ end shown)))))
      (concat (and (> end 0)
                   (mapconcat (lambda (line) (rlm-org--end-line filter line))
                              (split-string (substring text 0 (1- end)) "\n") ""))
              (rlm-org--partial filter rest)))))

(defun rlm-org-joined (held text)
  "Return HELD and TEXT as one text."
  (if (string-empty-p held) text (concat held text)))

(defconst rlm-org--harmful
  (rx (or (seq bol (* (any " \t")) (or (any "*#:,&%") "```" "~~~"))
          "<%%("
          (seq (or "src" "call") "_")
          (seq (or "elisp" "shell" "file+sys") ":")))
  "Regexp for all that a filter might change, and some more.")

(defun rlm-org--harmless-p (filter text)
  "Return non-nil if FILTER would change nothing of TEXT, its lines included.
Most text is such, and to look line by line makes garbage of many times its
size."
  (and (not (rlm-org-filter-fence filter))
       (< (+ (rlm-org-filter-column filter) (length text))
          (min rlm-org--prose-line (or (rlm-org-filter-limit filter) rlm-org--prose-line)))
       (let ((case-fold-search nil))
         (not (string-match-p rlm-org--harmful text)))))

(defun rlm-org-finish (filter)
  "End the stream of FILTER; return the rest of its text, ending its last line.
The text that FILTER has given out in all is empty or ends in a newline."
  (let ((held (rlm-org-filter-held filter)))
    (setf (rlm-org-filter-held filter) "")
    (concat (unless (and (rlm-org-filter-bol filter) (string-empty-p held))
              (rlm-org--end-line filter (string-remove-suffix "\r" held)))
            (when-let ((fence (rlm-org-filter-fence filter)))
              (setf (rlm-org-filter-fence filter) nil)
              (nth 2 fence)))))

(defun rlm-org-prose (text)
  "Return TEXT, which may be Markdown, as Org text; empty, or whole lines."
  (let ((filter (rlm-org-prose-filter)))
    (concat (rlm-org-feed filter text) (rlm-org-finish filter))))

(defun rlm-org-block (text &optional limit)
  "Return TEXT fit for an Org block; empty, or whole lines cut at LIMIT."
  (let ((filter (rlm-org-block-filter limit)))
    (concat (rlm-org-feed filter text) (rlm-org-finish filter))))

(defun rlm-org-line (text &optional length)
  "Return TEXT as one line of at most LENGTH characters, fit for any Org line."
  (let ((line (if (string-match-p "[\t\n\r\f]\\|  \\|\\` \\| \\'" text)
                  (string-trim (replace-regexp-in-string "[ \t\n\r\f]+" " " text))
                text)))
    (rlm-org-inline
     (if (and length (> (length line) length))
         (concat (string-trim-right (substring line 0 (1- length))) "…")
       line))))

(defun rlm-org-quotation (text length)
  "Return TEXT, LENGTH long at most, as `rlm-org-line' does, and without links.
It stands in a file; in an export, Org gives up at a link that leads nowhere."
  (string-replace "[[" (concat "[" rlm-org-guard "[") (rlm-org-line text length)))

(defun rlm-org-last-line (text)
  "Return where the last line of TEXT begins.
A regexp would look for its end from each place in every line."
  (let ((pos (length text)))
    (while (and (> pos 0) (/= (aref text (1- pos)) ?\n))
      (setq pos (1- pos)))
    pos))

(defun rlm-org-split (text)
  "Return the lines of TEXT; without a newline that is TEXT itself."
  (if (string-search "\n" text)
      (split-string text "\n")
    (list text)))

(defun rlm-org-lines (before lines)
  "Return the text BEFORE and LINES, each with its newline, as one text."
  (let ((parts (list before)))
    (dolist (line lines)
      (push line parts)
      (push "\n" parts))
    (apply #'concat (nreverse parts))))

(defun rlm-org-plain (text)
  "Return TEXT with plain line ends and without form feeds.
A form feed would end the part of a file where Emacs looks for local
variables, and the transcript ends with one for that reason."
  (if (string-match-p "[\r\f]" text)
      (replace-regexp-in-string "\f" "^L" (string-replace "\r\n" "\n" text))
    text))

(defun rlm-org--end-line (filter line)
  "Return LINE, the rest of a line of FILTER's stream, with its newline."
  (let ((start (rlm-org-filter-bol filter)))
    (setf (rlm-org-filter-bol filter) t)
    (concat (prog1 (if start
                       (rlm-org--clipped filter (rlm-org--whole-line filter line))
                     (rlm-org--clipped filter (rlm-org--within filter line)))
              (setf (rlm-org-filter-column filter) 0))
            "\n")))

(defun rlm-org--whole-line (filter line)
  "Return LINE, a whole line of FILTER's stream, such as Org may see it."
  (cond ((eq (rlm-org-filter-kind filter) 'block) (rlm-org--block-line line))
        ((rlm-org-filter-fence filter) (rlm-org--fence-line filter line))
        (t (rlm-org--prose-line filter line))))

(defun rlm-org--partial (filter rest)
  "Return what can be shown of REST, the start of an unended line of FILTER."
  (let ((shown (rlm-org--showable filter rest)))
    (setf (rlm-org-filter-held filter) (substring rest shown))
    (if (zerop shown)
        ""
      (setf (rlm-org-filter-bol filter) nil)
      (rlm-org--clipped filter (rlm-org--within filter (substring rest 0 shown))))))

(defun rlm-org--showable (filter rest)
  "Return how many characters of REST can be shown before its line has ended.
At the start of a line of FILTER nothing is, while the line may still turn
out to mean something to Org; later the last word is held back."
  (cond ((rlm-org-filter-fence filter) 0)
        ((and (rlm-org-filter-bol filter)
              (string-match-p (if (eq (rlm-org-filter-kind filter) 'block)
                                  "\\`[ \t]*,*[#*&%]\\|\\`[ \t]*,*\\'"
                                "\\`[ \t]*\\(?:[^[:alpha:] \t]\\|\\'\\)")
                              rest))
         0)
        ((> (length rest) 1000) (1- (length rest)))
        (t (or (string-match-p "[^ \t]*\\'" rest) 0))))

;;;; Lines

(defun rlm-org--block-line (line)
  "Return LINE escaped for the inside of a block."
  (cond ((string-match-p "\\`[ \t]*,*\\(?:\\*\\|#\\+\\)" line)
         (string-match "\\`[ \t]*" line)
         (concat (match-string 0 line) "," (substring line (match-end 0))))
        ((string-match-p "\\`&?%%(" line) (concat rlm-org-guard line))
        (t (rlm-org--sexp-guarded line))))

(defun rlm-org--fence-line (filter line)
  "Return LINE, which stands within a fence of FILTER."
  (pcase-let ((`(,sign ,length ,closing) (rlm-org-filter-fence filter)))
    (if (string-match-p (format "\\`[ \t]*%c\\{%d,\\}[ \t]*\\'" sign length) line)
        (progn (setf (rlm-org-filter-fence filter) nil)
               (string-remove-suffix "\n" closing))
      (rlm-org--block-line line))))

(defun rlm-org--prose-line (filter line)
  "Return LINE, a whole line of prose of FILTER."
  (cond ((string-match "\\`[ \t]*\\(```+\\|~~~+\\)[ \t]*\\([[:alnum:]_+-]*\\)[^`]*\\'" line)
         (rlm-org--open-fence filter (match-string 1 line) (match-string 2 line)))
        ((string-match-p "\\`\\*+\\(?:[ \t]\\|\\'\\)" line)
         (concat " " (rlm-org-inline line)))
        ((string-match "\\`#+[ \t]+\\([^*]*[^* \t#]\\)[ \t]*#*[ \t]*\\'" line)
         (concat "*" (rlm-org-inline (match-string 1 line)) "*"))
        ((string-match "\\`[ \t]*\\(?:#\\|:[^ \t:]+:\\|&?%%(\\)" line)
         (rlm-org--guarded line))
        (t (rlm-org-inline line))))

(defun rlm-org--open-fence (filter sign language)
  "Begin a fence of FILTER that opens with SIGN and names LANGUAGE.
Return the line that begins a block."
  (let ((kind (if (string-empty-p language) "example" "src")))
    (setf (rlm-org-filter-fence filter)
          (list (aref sign 0) (length sign) (format "#+end_%s\n" kind)))
    (string-trim-right (format "#+begin_%s %s" kind (downcase language)))))

(defun rlm-org--guarded (line)
  "Return LINE with a guard before its first sign."
  (string-match "\\`[ \t]*" line)
  (concat (match-string 0 line) rlm-org-guard
          (rlm-org-inline (substring line (match-end 0)))))

(defun rlm-org--within (filter text)
  "Return TEXT, a part of a line of FILTER, such as Org may see it."
  (if (eq (rlm-org-filter-kind filter) 'block)
      (rlm-org--sexp-guarded text)
    (rlm-org-inline text)))

(defconst rlm-org--active
  (rx (or (seq word-start (group (or "src" "call"))
               (group "_" (*? (not (any " \t\n"))) (any "[{(")))
          (seq word-start (group (or "elisp" "shell" "eshell" "file+sys")) (group ":"))))
  "Regexp for prose that Org would run; the guard goes between its groups.")

(defun rlm-org-inline (text)
  "Return prose TEXT without what Org would run.
That is diary sexps, inline code, and links to Lisp, shells and programs."
  (let ((case-fold-search nil))
    (rlm-org--sexp-guarded
     (if (string-match-p rlm-org--active text)
         (replace-regexp-in-string rlm-org--active
                                   (concat "\\1\\3" rlm-org-guard "\\2\\4") text t)
       text))))

(defun rlm-org--sexp-guarded (text)
  "Return TEXT without timestamps whose Lisp the agenda would evaluate."
  (if (string-search "<%%(" text)
      (string-replace "<%%(" (concat "<" rlm-org-guard "%%(") text)
    text))

;;;; Long lines

(defun rlm-org--clipped (filter text)
  "Return TEXT, more of a line of FILTER, fitted to the longest line allowed."
  (let* ((column (rlm-org-filter-column filter))
         (total (+ column (length text)))
         (limit (rlm-org-filter-limit filter)))
    (setf (rlm-org-filter-column filter) total)
    (cond ((and limit (> total limit)) (rlm-org--cut text column limit))
          ((and (eq (rlm-org-filter-kind filter) 'prose) (> total rlm-org--prose-line))
           (rlm-org--broken filter text column))
          (t text))))

(defun rlm-org--cut (text column limit)
  "Return TEXT, which begins at COLUMN, cut at LIMIT; say so where it is cut."
  (cond ((< column limit) (concat (substring text 0 (- limit column)) "… [line cut]"))
        (t "")))

(defun rlm-org--broken (filter text column)
  "Return TEXT of FILTER, begun at COLUMN, with its lines broken at blanks.
The breaks are followed by letters only, which mean nothing to Org."
  (let ((result "") (start 0) (room (max 0 (- rlm-org--prose-line column))))
    (while (let ((at (string-match "[ \t]+[[:alpha:]]" text (min (length text) (+ start room)))))
             (when at
               (setq result (concat result (substring text start at) "\n")
                     start (1- (match-end 0))
                     room rlm-org--prose-line))
             at))
    (setf (rlm-org-filter-column filter) (if (> start 0) (- (length text) start)
                                           (+ column (length text))))
    (concat result (substring text start))))

(provide 'rlm-org)
;;; rlm-org.el ends here
