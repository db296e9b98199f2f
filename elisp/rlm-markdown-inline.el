;;; rlm-markdown-inline.el --- What stands within a paragraph of Markdown  -*- lexical-binding: t; -*-

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

;; `rlm-markdown-inline' reads the text of a paragraph, heading or cell and
;; returns a list of nodes: strings, which are literal text with newlines
;; where lines end, and
;;
;;   (strong . NODES)  (emph . NODES)  (strike . NODES)
;;   (code . TEXT)     (math . TEXT)   (html . TEXT)     (url . TEXT)
;;   (link URL . NODES)  (image URL . TEXT)  (footnote . LABEL)  (break)
;;
;; The rules are those of CommonMark, with tables of GitHub's flavour and
;; footnotes and mathematics of Pandoc's, but for what models write without
;; meaning markup: `__init__' and a*b*c stay as they are.

;;; Code:

(require 'cl-lib)
(require 'subr-x)

(cl-defstruct (rlm-markdown-delimiter
               (:constructor rlm-markdown--delimiter (char count open close both))
               (:copier nil))
  "A run of signs that may begin or end emphasis."
  char count open close
  both                                  ; whether the text around allows either
  gone)

(cl-defstruct (rlm-markdown-bracket (:constructor rlm-markdown--bracket) (:copier nil))
  "An opening bracket that may begin a link, or an image if IMAGE is non-nil."
  image after dead)

(defconst rlm-markdown--special
  (rx (or (any "\\`*_~<&$[]\n") "![" (seq word-boundary "http" (opt "s") "://")))
  "Regexp for where text may be something else than text.")

(defvar rlm-markdown-references nil
  "Alist of the targets of reference links by their normal labels.")

(defconst rlm-markdown--work " *rlm markdown*"
  "Name of the buffer that holds the text which is read.")

(defun rlm-markdown-inline (text)
  "Return the nodes of TEXT."
  (with-current-buffer (get-buffer-create rlm-markdown--work)
    (erase-buffer)
    (insert text)
    (rlm-markdown--inline text)))

(defun rlm-markdown--inline (text)
  "Return the nodes of TEXT, which is also the text of the current buffer."
  (let ((pos 0) (end (length text)) out brackets)
    (while (< pos end)
      (let ((next (or (string-match rlm-markdown--special text pos) end)))
        (when (> next pos)
          (push (substring text pos next) out))
        (setq pos next)
        (when (< pos end)
          (pcase (aref text pos)
            (?\n (setq out (rlm-markdown--line-end out)
                       pos (string-match "[^ \t]\\|\\'" text (1+ pos))))
            ((and ?\] (guard brackets))
             (pcase-setq `(,out ,pos ,brackets)
                         (rlm-markdown--close-bracket text pos out brackets)))
            (_ (pcase-let ((`(,token . ,after) (rlm-markdown--token text pos)))
                 (when (rlm-markdown-bracket-p token)
                   (push token brackets))
                 (push token out)
                 (setq pos after)))))))
    (rlm-markdown--pair (nreverse out))))

(defun rlm-markdown--token (text pos)
  "Return the token of TEXT at POS, which is special, and the place after it."
  (or (pcase (aref text pos)
        (?\\ (rlm-markdown--escape text pos))
        (?` (rlm-markdown--code text pos))
        ((or ?* ?_ ?~) (rlm-markdown--run text pos))
        (?< (rlm-markdown--angle pos))
        (?& (rlm-markdown--entity text pos))
        (?$ (rlm-markdown--dollar text pos))
        (?\[ (or (rlm-markdown--footnote pos)
                 (cons (rlm-markdown--bracket :after (1+ pos)) (1+ pos))))
        (?! (cons (rlm-markdown--bracket :image t :after (+ pos 2)) (+ pos 2)))
        (?h (rlm-markdown--bare-url pos)))
      (cons (substring text pos (1+ pos)) (1+ pos))))

(defun rlm-markdown--at (regexp pos)
  "Return non-nil if REGEXP matches at POS, counted from 0.
A string can't be matched at one place without a search through the rest."
  (goto-char (1+ pos))
  (looking-at regexp))

(defun rlm-markdown--after (&optional group)
  "Return the place, counted from 0, after the match or its GROUP."
  (1- (match-end (or group 0))))

;;;; Simple tokens

(defun rlm-markdown--line-end (out)
  "Return OUT, tokens newest first, with the end of a line.
Two blanks before it make it a break."
  (let ((last (car out)))
    (if (not (stringp last))
        (cons "\n" out)
      (let ((trimmed (string-trim-right last "[ \t]+")))
        (append (if (>= (- (length last) (length trimmed)) 2) '((break)) '("\n"))
                (unless (string-empty-p trimmed) (list trimmed))
                (cdr out))))))

(defun rlm-markdown--escape (text pos)
  "Return the token of the backslash of TEXT at POS."
  (cond ((rlm-markdown--formula text pos))
        ((rlm-markdown--at "\\\\\n[ \t]*" pos) (cons '(break) (rlm-markdown--after)))
        ((rlm-markdown--at "\\\\[]!-/:-@[^_`{-~\\]" pos)
         (cons (substring text (1+ pos) (+ pos 2)) (+ pos 2)))))

(defconst rlm-markdown--longest-formula 1000
  "How far away from its beginning the end of a formula is looked for.")

(defun rlm-markdown--formula (text pos)
  "Return the token of the formula that begins with a backslash of TEXT at POS."
  (let ((sign (and (< (1+ pos) (length text)) (aref text (1+ pos)))))
    (when (memq sign '(?\( ?\[))
      (goto-char (+ pos 3))
      (when (search-forward (if (eq sign ?\() "\\)" "\\]")
                            (min (point-max) (+ pos rlm-markdown--longest-formula)) t)
        (cons (cons 'math (substring text pos (1- (point)))) (1- (point)))))))

(defun rlm-markdown--code (text pos)
  "Return the token of the code of TEXT at POS.
Backquotes without an end are text."
  (string-match "`+" text pos)
  (let* ((beg (match-end 0))
         (sign (substring text pos beg))
         (end (string-match (concat "[^`]" sign "\\(?:[^`]\\|\\'\\)") text beg)))
    (if (null end)
        (cons sign beg)
      (let ((code (string-replace "\n" " " (substring text beg (1+ end)))))
        (cons (cons 'code (if (string-match "\\` \\(.*[^ ].*\\) \\'" code)
                              (match-string 1 code)
                            code))
              (+ end 1 (length sign)))))))

(defun rlm-markdown--angle (pos)
  "Return the token of the angle bracket at POS: an address or HTML."
  (cond ((rlm-markdown--at "<\\(?:https?\\|ftp\\|mailto\\):[^][<> \t\n]+>" pos)
         (cons (cons 'url (match-string 0)) (rlm-markdown--after)))
        ((rlm-markdown--at "<\\([[:alnum:]._+-]+@[[:alnum:].-]+\\)>" pos)
         (cons (cons 'url (format "<mailto:%s>" (match-string 1))) (rlm-markdown--after)))
        ((rlm-markdown--at "<!--\\(?:.\\|\n\\)*?-->\\|</?[a-zA-Z][a-zA-Z0-9-]*\\(?:[ \t\n][^<>]*\\|/\\)?>"
                           pos)
         (cons (cons 'html (match-string 0)) (rlm-markdown--after)))))

(defconst rlm-markdown--entities
  '(("amp" . "&") ("lt" . "<") ("gt" . ">") ("quot" . "\"") ("apos" . "'") ("nbsp" . "\u00a0")
    ("hellip" . "…") ("mdash" . "—") ("ndash" . "–") ("lsquo" . "‘") ("rsquo" . "’")
    ("ldquo" . "“") ("rdquo" . "”") ("bull" . "•") ("middot" . "·") ("times" . "×")
    ("larr" . "←") ("rarr" . "→") ("uarr" . "↑") ("darr" . "↓") ("le" . "≤") ("ge" . "≥")
    ("ne" . "≠") ("asymp" . "≈") ("deg" . "°") ("copy" . "©") ("reg" . "®") ("trade" . "™")
    ("euro" . "€") ("para" . "¶") ("sect" . "§"))
  "The names of signs that models use.")

(defun rlm-markdown--entity (text pos)
  "Return the token of the entity of TEXT at POS."
  (let ((sign (cond ((rlm-markdown--at "&\\([a-z]+\\);" pos)
                     (cdr (assoc (match-string 1) rlm-markdown--entities)))
                    ((rlm-markdown--at "&#\\([0-9]\\{1,7\\}\\);" pos)
                     (rlm-markdown--character (string-to-number (match-string 1))))
                    ((rlm-markdown--at "&#[xX]\\([0-9a-fA-F]\\{1,6\\}\\);" pos)
                     (rlm-markdown--character (string-to-number (match-string 1) 16))))))
    (when sign
      (cons sign (1+ (string-search ";" text pos))))))

(defun rlm-markdown--character (code)
  "Return the character CODE as a string, or nil if it is none to be shown."
  (when (and (<= 32 code #x10ffff) (not (<= #xd800 code #xdfff)))
    (string code)))

(defun rlm-markdown--dollar (text pos)
  "Return the token of the dollar sign of TEXT at POS, if it begins mathematics."
  (cond ((rlm-markdown--at "\\$\\$\\([^$]+\\)\\$\\$" pos)
         (cons (cons 'math (concat "\\[" (match-string 1) "\\]")) (rlm-markdown--after)))
        ((and (not (and (> pos 0) (rlm-markdown--word-p (aref text (1- pos)))))
              (rlm-markdown--at "\\$\\([^ \t\n$]\\(?:[^$\n]*[^ \t\n$\\]\\)?\\)\\$\\(?:[^[:alnum:]$]\\|\\'\\)" pos)
              (let ((formula (match-string 1)))
                (save-match-data
                  (string-match-p "[\\^_={}<>+*/()|-]\\|\\`[a-zA-Z]\\{1,2\\}\\'" formula))))
         (cons (cons 'math (concat "\\(" (match-string 1) "\\)")) (1+ (rlm-markdown--after 1))))))

(defun rlm-markdown--footnote (pos)
  "Return the token of the reference to a footnote at POS."
  (when (rlm-markdown--at "\\[\\^\\([[:alnum:]_-]+\\)\\]" pos)
    (cons (cons 'footnote (match-string 1)) (rlm-markdown--after))))

(defun rlm-markdown--bare-url (pos)
  "Return the token of the address at POS, without the punctuation after it."
  (when (rlm-markdown--at "https?://[^][ \t\n<>\"`|]+" pos)
    (let ((url (string-trim-right (match-string 0) "[].?!,:;*_~'\"]+")))
      (while (and (string-suffix-p ")" url)
                  (> (cl-count ?\) url) (cl-count ?\( url)))
        (setq url (string-trim-right (substring url 0 -1) "[.?!,:;*_~'\"]+")))
      (cons (cons 'url url) (+ pos (length url))))))

;;;; Emphasis

(defun rlm-markdown--word-p (char)
  "Return non-nil if CHAR is an ASCII letter or digit."
  (or (<= ?a char ?z) (<= ?A char ?Z) (<= ?0 char ?9)))

(defun rlm-markdown--blank-p (char)
  "Return non-nil if CHAR is white space."
  (or (memq char '(?\s ?\t ?\n ?\u00a0))
      (and (> char 127) (eq (get-char-code-property char 'general-category) 'Zs))))

(defun rlm-markdown--punctuation-p (char)
  "Return non-nil if CHAR is a sign of punctuation."
  (if (< char 128)
      (and (> char 32) (< char 127) (not (rlm-markdown--word-p char)))
    (memq (get-char-code-property char 'general-category)
          '(Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So))))

(defun rlm-markdown--run (text pos)
  "Return the token of the run of emphasis signs of TEXT at POS.
Names such as `__init__' are text."
  (if (let (case-fold-search)
        (and (eq (aref text pos) ?_)
             (rlm-markdown--at "__[a-z0-9]+\\(?:_[a-z0-9]+\\)*__\\(?:[^_]\\|\\'\\)" pos)))
      (let ((end (1+ (string-match "_\\(?:[^_]\\|\\'\\)" text
                                   (string-search "__" text (+ pos 2))))))
        (cons (substring text pos end) end))
    (let* ((char (aref text pos))
           (end (rlm-markdown--run-end text pos))
           (before (if (> pos 0) (aref text (1- pos)) ?\n))
           (after (if (< end (length text)) (aref text end) ?\n)))
      (cons (if (and (eq char ?~) (/= (- end pos) 2))
                (substring text pos end)
              (rlm-markdown--flank char (- end pos) before after))
            end))))

(defun rlm-markdown--run-end (text pos)
  "Return where the signs of TEXT that are like the one at POS end."
  (let ((char (aref text pos)) (end (1+ pos)))
    (while (and (< end (length text)) (eq char (aref text end)))
      (setq end (1+ end)))
    end))

(defun rlm-markdown--flank (char count before after)
  "Return the delimiter of COUNT times CHAR between BEFORE and AFTER."
  (let* ((punctuated-before (rlm-markdown--punctuation-p before))
         (punctuated-after (rlm-markdown--punctuation-p after))
         ;; Scripts without blanks between words have no other border.
         (left (and (not (rlm-markdown--blank-p after))
                    (or (not punctuated-after) (rlm-markdown--blank-p before)
                        punctuated-before (> before 127))))
         (right (and (not (rlm-markdown--blank-p before))
                     (or (not punctuated-before) (rlm-markdown--blank-p after)
                         punctuated-after (> after 127)))))
    (rlm-markdown--delimiter
     char count
     (and left (if (eq char ?_)
                   (or (not right) punctuated-before)
                 (not (rlm-markdown--word-p before))))
     (and right (if (eq char ?_)
                    (or (not left) punctuated-after)
                  (not (and (= count 1) (rlm-markdown--word-p before)
                            (rlm-markdown--word-p after)))))
     (and left right))))

(defun rlm-markdown--pair (tokens)
  "Return the nodes of TOKENS, whose delimiters are paired or are text."
  (let (stack openers)
    (dolist (token tokens)
      (if (not (rlm-markdown-delimiter-p token))
          (push token stack)
        (let (opener)
          (while (and (rlm-markdown-delimiter-close token)
                      (> (rlm-markdown-delimiter-count token) 0)
                      (setq openers (rlm-markdown--still-open openers)
                            opener (rlm-markdown--opener token openers)))
            (setq stack (rlm-markdown--enclose stack opener token))))
        (when (> (rlm-markdown-delimiter-count token) 0)
          (push token stack)
          (when (rlm-markdown-delimiter-open token)
            (setq openers (cons token (rlm-markdown--still-open openers)))))))
    (rlm-markdown--joined (nreverse (mapcar #'rlm-markdown--literal stack)))))

(defun rlm-markdown--still-open (openers)
  "Return OPENERS, newest first, without those that are gone.
Those that stand behind one which is open are not gone."
  (while (and openers (rlm-markdown-delimiter-gone (car openers)))
    (pop openers))
  openers)

(defconst rlm-markdown--most-openers 32
  "How many open signs are looked at for the one that a sign closes.")

(defun rlm-markdown--opener (closer openers)
  "Return which of OPENERS, newest first, CLOSER closes, or nil."
  (let ((left rlm-markdown--most-openers) found)
    (while (and openers (not found) (> left 0))
      (setq left (1- left))
      (if (rlm-markdown--pair-p (car openers) closer)
          (setq found (car openers))
        (pop openers)))
    found))

(defun rlm-markdown--pair-p (opener closer)
  "Return non-nil if OPENER and CLOSER go together."
  (let ((ours (rlm-markdown-delimiter-count closer))
        (theirs (rlm-markdown-delimiter-count opener)))
    (and (eq (rlm-markdown-delimiter-char opener) (rlm-markdown-delimiter-char closer))
         (not (and (or (rlm-markdown-delimiter-both closer)
                       (rlm-markdown-delimiter-both opener))
                   (zerop (% (+ ours theirs) 3))
                   (not (zerop (% ours 3))))))))

(defun rlm-markdown--enclose (stack opener closer)
  "Return STACK with what stands above OPENER as one node, ended by CLOSER."
  (let* ((char (rlm-markdown-delimiter-char opener))
         (count (if (and (>= (rlm-markdown-delimiter-count opener) 2)
                         (>= (rlm-markdown-delimiter-count closer) 2))
                    2
                  1))
         children)
    (while (not (eq (car stack) opener))
      (push (rlm-markdown--literal (pop stack)) children))
    (cl-decf (rlm-markdown-delimiter-count opener) count)
    (cl-decf (rlm-markdown-delimiter-count closer) count)
    (when (zerop (rlm-markdown-delimiter-count opener))
      (setf (rlm-markdown-delimiter-gone opener) t)
      (pop stack))
    (cons (cons (cond ((eq char ?~) 'strike) ((= count 2) 'strong) (t 'emph))
                (rlm-markdown--joined children))
          stack)))

(defun rlm-markdown--literal (token)
  "Return TOKEN, or its text if it is a sign that means nothing."
  (cond ((rlm-markdown-delimiter-p token)
         (setf (rlm-markdown-delimiter-gone token) t)
         (make-string (rlm-markdown-delimiter-count token) (rlm-markdown-delimiter-char token)))
        ((rlm-markdown-bracket-p token) (if (rlm-markdown-bracket-image token) "![" "["))
        (t token)))

(defun rlm-markdown--joined (nodes)
  "Return NODES with strings that stand beside each other as one."
  (if (or (null nodes) (null (cdr nodes)))
      nodes
    (let (result strings)
      (while nodes
        (let ((node (pop nodes)))
          (cond ((not (stringp node)) (push node result))
                ((not (or strings (stringp (car nodes)))) (push node result))
                (t (push node strings)
                   (unless (stringp (car nodes))
                     (push (apply #'concat (nreverse strings)) result)
                     (setq strings nil))))))
      (nreverse result))))

;;;; Links

(defun rlm-markdown--close-bracket (text pos out brackets)
  "End a bracket of TEXT at POS; OUT are the tokens and BRACKETS the open ones.
Return the list of OUT, POS after it, and BRACKETS."
  (let* ((bracket (pop brackets))
         (target (and (not (rlm-markdown-bracket-dead bracket))
                      (or (rlm-markdown--destination (1+ pos))
                          (rlm-markdown--reference text pos bracket)))))
    (if (null target)
        (list (cons "]" out) (1+ pos) brackets)
      (let (content)
        (while (not (eq (car out) bracket))
          (push (pop out) content))
        (pop out)
        (if (rlm-markdown-bracket-image bracket)
            (push (cons 'image (cons (car target) (rlm-markdown-plain
                                                   (rlm-markdown--pair content))))
                  out)
          (push (cons 'link (cons (car target) (rlm-markdown--pair content))) out)
          (dolist (other brackets)      ; there is no link within a link
            (unless (rlm-markdown-bracket-image other)
              (setf (rlm-markdown-bracket-dead other) t))))
        (list out (cdr target) brackets)))))

(defun rlm-markdown--destination (pos)
  "Return the address in parentheses at POS, and the place after it."
  (let ((title "\\(?:[ \t\n]+\\(?:\"[^\"]*\"\\|'[^']*'\\|([^()]*)\\)\\)?[ \t\n]*)"))
    (cond ((rlm-markdown--at (concat "([ \t\n]*<\\([^<>\n]*\\)>" title) pos)
           (cons (match-string 1) (rlm-markdown--after)))
          ((rlm-markdown--at
            (concat "([ \t\n]*\\(\\(?:[^() \t\n\\]\\|\\\\.\\|([^() \t\n]*)\\)*\\)" title) pos)
           (let ((end (rlm-markdown--after)))
             (cons (replace-regexp-in-string "\\\\\\([[:punct:]]\\)" "\\1" (match-string 1))
                   end)))
          ;; Names of files have blanks that models don't encode.
          ((rlm-markdown--at "(\\([^()\"\n]+\\))" pos)
           (let ((end (rlm-markdown--after)))
             (cons (string-trim (match-string 1)) end))))))

(defun rlm-markdown--reference (text pos bracket)
  "Return the address for BRACKET, closed in TEXT at POS, by its label."
  (let* ((own (substring text (rlm-markdown-bracket-after bracket) pos))
         (given (and (rlm-markdown--at "\\[\\([^][\n]*\\)\\]" (1+ pos))
                     (match-string 1)))
         (end (if given (rlm-markdown--after) (1+ pos)))
         (url (cdr (assoc (rlm-markdown-label (if (member given '(nil "")) own given))
                          rlm-markdown-references))))
    (and url (cons url end))))

(defun rlm-markdown-label (label)
  "Return LABEL in its normal form."
  (downcase (string-trim (replace-regexp-in-string "[ \t\n]+" " " label))))

(defun rlm-markdown-plain (nodes)
  "Return the text of NODES without their markup."
  (mapconcat (lambda (node)
               (pcase node
                 ((pred stringp) node)
                 (`(,(or 'code 'math 'html 'url) . ,text) text)
                 (`(,(or 'strong 'emph 'strike) . ,children) (rlm-markdown-plain children))
                 (`(link ,_ . ,children) (rlm-markdown-plain children))
                 (`(image ,_ . ,text) text)
                 ('(break) "\n")
                 (_ "")))
             nodes ""))

(provide 'rlm-markdown-inline)
;;; rlm-markdown-inline.el ends here
