;;; rlm-markdown-org.el --- Text of Markdown as text of Org  -*- lexical-binding: t; -*-

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

;; `rlm-markdown-org-text' turns the nodes of `rlm-markdown-inline' into
;; lines of Org.
;;
;; Org knows emphasis only between certain signs, and sees it, and other
;; things, where Markdown has plain text.  An invisible sign helps where it
;; must: a zero-width space, which Org takes for a blank, lets emphasis
;; begin or end within a word; a word joiner, which Org takes for a letter,
;; keeps a sign from beginning any.  Both stand outside of what one would
;; copy: never in code, never in an address, and before a path, not in it.
;; Where a line would begin with a sign that means something to Org it is
;; joined to the line before, which means the same in Markdown.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm-org)
(require 'rlm-markdown-inline)

(defconst rlm-markdown-org-joiner "\u2060"
  "The word joiner: invisible, and no blank to Org.")

(defconst rlm-markdown-org--before (append "-\s\t\n\u200b('\"{" nil)
  "What may stand before emphasis in Org.")

(defconst rlm-markdown-org--behind (append "-\s\t\n\u200b.,:!?;'\")}\\[" nil)
  "What may stand after emphasis in Org.")

(defconst rlm-markdown-org--behind-regexp "[[\s\t\n\u200b.,:!?;'\")}\\-]"
  "Regexp for what may stand after emphasis in Org.")

;;;; Pieces
;; (text STRING AROUND): to be shown as it is; AROUND are the marks of emphasis around it.
;; (open MARK) (close MARK): emphasis.  (span STRING): code, with its marks.
;; (raw STRING): links and the like.  (break): the end of a line.

(defun rlm-markdown-org--pieces (nodes around)
  "Return the pieces of NODES, which stand in the emphasis AROUND."
  (let (pieces)
    (dolist (node nodes (nreverse pieces))
      (setq pieces (nconc (nreverse (rlm-markdown-org--node-pieces node around)) pieces)))))

(defun rlm-markdown-org--node-pieces (node around)
  "Return the pieces of NODE, which stands in the emphasis AROUND."
  (pcase node
    ((pred stringp) (list (list 'text (rlm-org-inline node) around)))
    (`(html . ,text) (list (list 'text (rlm-org-inline text) around)))
    (`(strong . ,children) (rlm-markdown-org--emphasis "*" children around))
    (`(emph . ,children) (rlm-markdown-org--emphasis "/" children around))
    (`(strike . ,children) (rlm-markdown-org--emphasis "+" children around))
    (`(code . ,text) (rlm-markdown-org--code text))
    (`(link ,url . ,children) (rlm-markdown-org--link url children around))
    (`(image ,url . ,text)
     (rlm-markdown-org--link url (list (if (string-empty-p text) url text)) around))
    (`(footnote . ,label) (list (list 'raw (format "[fn:%s]" label))))
    (`(url . ,text) (list (list 'raw (string-replace "\n" " " text))))
    (`(math . ,text) (list (rlm-markdown-org--math text around)))
    (_ (list (list 'break)))))

(defun rlm-markdown-org--math (text around)
  "Return the piece of the formula TEXT within the emphasis AROUND.
What Org would end sooner is no formula."
  (let ((whole (= (string-match (if (string-prefix-p "\\(" text) "\\\\)" "\\\\]") text)
                  (- (length text) 2)))
        (line (rlm-org-inline (string-replace "\n" " " text))))
    (if whole (list 'raw line) (list 'text line around))))

(defun rlm-markdown-org--emphasis (mark nodes around)
  "Return the pieces of NODES, emphasized by MARK within the emphasis AROUND.
What would end the emphasis too soon is left out of it."
  (let ((pieces (rlm-markdown-org--pieces nodes (cons mark around))))
    ;; Most emphasis is a few words.
    (if (and (null (cdr pieces)) (rlm-markdown-org--words-p (car pieces))
             (not (member mark around)))
        `((open ,mark) ,@pieces (close ,mark))
      (rlm-markdown-org--emphasized mark pieces around))))

(defun rlm-markdown-org--words-p (piece)
  "Return non-nil if PIECE is a line of text without blanks at its ends."
  (let ((text (and (eq (car piece) 'text) (nth 1 piece))))
    (and text
         (not (string-empty-p text))
         (not (memq (aref text 0) '(?\s ?\t)))
         (not (memq (aref text (1- (length text))) '(?\s ?\t)))
         (not (string-search "\n" text)))))

(defun rlm-markdown-org--emphasized (mark pieces around)
  "Return PIECES, emphasized by MARK within AROUND where that is possible."
  (let ((depth 0) nested runs run marked)
    (dolist (piece pieces)
      (pcase piece
        (`(open ,_) (cl-incf depth))
        (`(close ,_) (cl-decf depth)))
      (if (not (rlm-markdown-org--ends-p piece mark))
          (push piece run)
        (setq nested (or nested (> depth 0)))
        (push (nreverse run) runs)
        (push (list piece) runs)
        (setq run nil)))
    (push (nreverse run) runs)
    (if (or (member mark around) nested)
        pieces
      (dolist (run runs marked)
        (setq marked (nconc (rlm-markdown-org--mark mark run) marked))))))

(defun rlm-markdown-org--ends-p (piece mark)
  "Return non-nil if PIECE can't stand in emphasis by MARK."
  (pcase piece
    ('(break) t)
    (`(,(or 'raw 'span) ,text)
     (string-match-p (concat "[^ ]" (regexp-quote mark)
                             "\\(?:" rlm-markdown-org--behind-regexp "\\|\\'\\)")
                     text))))

(defun rlm-markdown-org--mark (mark run)
  "Return the pieces RUN emphasized by MARK, but for blanks at their ends."
  (if (or (null run) (rlm-markdown-org--ends-p (car run) mark))
      run
    (let* ((run (mapcar (lambda (piece)
                          (if (and (eq (car piece) 'text) (string-search "\n" (nth 1 piece)))
                              (list 'text (string-replace "\n" " " (nth 1 piece)) (nth 2 piece))
                            piece))
                        run))
           (first (rlm-markdown-org--blanks (car run) "\\`[ \t]+"))
           (last (rlm-markdown-org--blanks (car (last run)) "[ \t]+\\'"))
           (inner (rlm-markdown-org--trimmed run first last)))
      (if (null inner)
          run
        (append (and first (list (list 'text first nil)))
                (list (list 'open mark)) inner (list (list 'close mark))
                (and last (list (list 'text last nil))))))))

(defun rlm-markdown-org--blanks (piece regexp)
  "Return the blanks of PIECE that match REGEXP, or nil."
  (and (eq (car piece) 'text)
       (string-match-p "\\`[ \t]\\|[ \t]\\'" (nth 1 piece))
       (string-match regexp (nth 1 piece))
       (match-string 0 (nth 1 piece))))

(defun rlm-markdown-org--trimmed (run first last)
  "Return RUN without the blanks FIRST and LAST at its ends.
Return nil if nothing is left."
  (let ((run (copy-sequence run)))
    (when first
      (setcar run (list 'text (substring (nth 1 (car run)) (length first)) (nth 2 (car run)))))
    (when (and last (not (and first (null (cdr run)) (string-empty-p (nth 1 (car run))))))
      (let ((end (last run)))
        (setcar end (list 'text (substring (nth 1 (car end)) 0 (- (length last)))
                          (nth 2 (car end))))))
    (cl-delete-if (lambda (piece) (and (eq (car piece) 'text) (string-empty-p (nth 1 piece))))
                  run)))

;;;; Code and links

(defun rlm-markdown-org--code (text)
  "Return the pieces of the code TEXT.
Between the marks ~ and = is chosen so that the code does not end itself;
code that would end both is cut in two."
  (let ((text (replace-regexp-in-string "[\n\t]" " " text)))
    (string-match "\\`\\( *\\)\\(.*?\\)\\( *\\)\\'" text)
    (let ((before (match-string 1 text))
          (code (match-string 2 text))
          (behind (match-string 3 text)))
      (if (string-empty-p code)
          (list (list 'text (concat "`" text "`") nil))
        (append (unless (string-empty-p before) (list (list 'text before nil)))
                (rlm-markdown-org--spans code)
                (unless (string-empty-p behind) (list (list 'text behind nil))))))))

(defun rlm-markdown-org--spans (code)
  "Return the pieces of CODE, which neither begins nor ends with a blank."
  (let ((mark (seq-find (lambda (mark) (not (rlm-markdown-org--self-ending code mark)))
                        '("~" "="))))
    (if mark
        (list (list 'span (concat mark code mark)))
      (let ((at (1- (max (rlm-markdown-org--self-ending code "~")
                         (rlm-markdown-org--self-ending code "=")))))
        (append (rlm-markdown-org--code (substring code 0 at))
                (rlm-markdown-org--code (substring code at)))))))

(defun rlm-markdown-org--self-ending (code mark)
  "Return after which place MARK within CODE would end it, or nil."
  (and (string-match (concat "[^ ]\\(" mark "\\)" rlm-markdown-org--behind-regexp) code)
       (match-end 1)))

(defun rlm-markdown-org--link (url nodes around)
  "Return the pieces of a link to URL with the text NODES, in the emphasis AROUND.
Links that would run something become text."
  (let ((target (rlm-markdown-org--target url))
        (text (rlm-markdown-plain nodes)))
    (cond ((null target)
           (append (rlm-markdown-org--pieces nodes around)
                   (unless (string-prefix-p "#" url)
                     (rlm-markdown-org--pieces (list (format " (%s)" url)) around))))
          ((or (string-empty-p (string-trim text)) (equal text url))
           (list (list 'raw (format "[[%s]]" target))))
          (t (list (list 'raw (format "[[%s][%s]]" target
                                      (rlm-markdown-org--description nodes))))))))

(defun rlm-markdown-org--target (url)
  "Return the target of an Org link to URL, or nil if there shall be none."
  (let ((url (replace-regexp-in-string
              "[][ \t\n\\]" (lambda (sign) (format "%%%02X" (aref sign 0)))
              (string-trim url) t t)))
    (cond ((string-match-p "\\`\\(?:https?\\|ftp\\|mailto\\|file\\|doi\\):." url) url)
          ((string-match-p "\\`//." url) (concat "https:" url))
          ((string-match-p "\\`\\(?:#\\|\\'\\|[[:alpha:]][[:alnum:]+.-]*:\\)" url) nil)
          (t (concat "file:" url)))))

(defun rlm-markdown-org--description (nodes)
  "Return NODES as the description of a link, in which there is no other."
  (let ((text (string-join (rlm-markdown-org-text
                            (mapcar (lambda (node)
                                      (if (memq (car-safe node) '(image url))
                                          (rlm-markdown-plain (list node))
                                        node))
                                    nodes))
                           " ")))
    (replace-regexp-in-string "\\]\\'" (concat "]" rlm-org-guard)
                              (string-replace "]]" (concat "]" rlm-org-guard "]") text))))

;;;; Text

(defun rlm-markdown-org-text (nodes)
  "Return NODES as lines of Org, none of which Org takes for more than text."
  (rlm-markdown-org--lines
   (rlm-markdown-org--guarded
    (rlm-markdown-org--assembled (rlm-markdown-org--pieces nodes nil)))))

(defconst rlm-markdown-org--looked-at
  (rx (or (any "*/_=~+[<{@#:&%`|\\-") (seq bol (* (any " \t")) (any digit "CSD"))))
  "Regexp for text of which `rlm-markdown-org--guarded' asks what it is.")

(defun rlm-markdown-org--assembled (pieces)
  "Return PIECES as one string.
Its text has the property `rlm-text' with the marks around it, where anyone
asks for that: a property of each word would be ten times as big as they are."
  (let ((last ?\n) opened closed strings)
    (cl-flet ((add (string)
                (unless (string-empty-p string)
                  (push string strings)
                  (setq last (aref string (1- (length string)))))))
      (pcase-dolist (`(,kind ,text ,around) pieces)
        (let ((begins (memq kind '(open span)))
              (next (and (stringp text) (not (string-empty-p text)) (aref text 0))))
          (when (or (and closed next (not (eq kind 'close))
                         (not (memq next rlm-markdown-org--behind)))
                    (and begins (not opened)
                         (not (memq last rlm-markdown-org--before))))
            (add rlm-org-guard))
          (pcase kind
            ('text (add (if (string-match-p rlm-markdown-org--looked-at text)
                            (propertize text 'rlm-text (or around t))
                          text)))
            ('break (add "\\\\\n"))
            (_ (add text)))
          (when (or next (eq kind 'break))
            (setq opened (eq kind 'open)
                  closed (memq kind '(close span)))))))
    (apply #'concat (nreverse strings))))

(defun rlm-markdown-org--guarded (string)
  "Return STRING with guards where its text would mean something to Org."
  (let ((guards (append (rlm-markdown-org--sign-guards string)
                        (rlm-markdown-org--object-guards string)))
        (start 0) parts)
    (if (null guards)
        string
      (pcase-dolist (`(,at . ,guard) (sort guards (lambda (a b) (< (car a) (car b)))))
        (push (substring string start at) parts)
        (push guard parts)
        (setq start at))
      (apply #'concat (nreverse (cons (substring string start) parts))))))

(defun rlm-markdown-org--sign-guards (string)
  "Return an alist of places in STRING and guards against emphasis there."
  (let ((start 0) ends signs guards)
    (while (string-match "[*/_=~+]" string start)
      (setq start (match-end 0))
      (let* ((at (match-beginning 0))
             (sign (aref string at))
             (before (if (> at 0) (aref string (1- at)) ?\n))
             (behind (if (< start (length string)) (aref string start) ?\n))
             (around (get-text-property at 'rlm-text string))
             (ends-p (and (not (memq before '(?\s ?\t ?\n ?\u200b)))
                          (memq behind rlm-markdown-org--behind))))
        (when ends-p
          (setf (alist-get sign ends) at)
          (when (and (consp around) (member (string sign) around))
            (push (cons start rlm-markdown-org-joiner) guards)))
        (when (and around (not (memq behind '(?\s ?\t ?\n ?\u200b)))
                   (memq before rlm-markdown-org--before))
          (push (cons at sign) signs))))
    (pcase-dolist (`(,at . ,sign) signs)
      (when (> (alist-get sign ends -1) (1+ at))
        (push (cons at rlm-markdown-org-joiner) guards)))
    guards))

(defconst rlm-markdown-org--objects
  (rx (or (seq (group-n 1 "[") "[" (+ (not (any "[]\n"))) "]" (any "[]"))
          (seq (group-n 1 "[") (or "fn:" "cite:" "cite/"))
          (seq (group-n 1 (+ "<")) "<" (+ (not (any "<>\n"))) ">>")
          (seq (group-n 1 "<") (= 4 digit) "-" (= 2 digit) "-" (= 2 digit))
          (seq (group-n 1 "{") "{{")
          (seq (group-n 1 "@") "@" (+ (any "a-z")) ":")))
  "Regexp for text that Org takes for a link, target, date, macro and the like.
A guard after its first group keeps it from that.")

(defun rlm-markdown-org--object-guards (string)
  "Return where in STRING guards keep text from being an object of Org."
  (let ((start 0) guards)
    (while (string-match rlm-markdown-org--objects string start)
      (setq start (match-end 1))
      (when (get-text-property (match-beginning 0) 'rlm-text string)
        (push (cons start rlm-org-guard) guards)))
    guards))

(defconst rlm-markdown-org-line-start
  (rx bos (* (any " \t"))
      (or (seq (+ "*") (any " \t"))
          (seq (any "-+") (or (any " \t") eos))
          (seq (+ digit) (any ".)") (or (any " \t") eos))
          (seq "#" (or "+" " " "\t" eos))
          (seq ":" (or (any " \t") eos (seq (+ (any word "-_")) ":" (* (any " \t")) eos)))
          (seq (* "&") "%%(")
          (seq (>= 5 "-") (* (any " \t")) eos)
          (seq (>= 3 (any "`~")))
          "|" "[fn:" "\\begin{" "CLOCK:" "SCHEDULED:" "DEADLINE:" "CLOSED:" "+-"))
  "Regexp for the start of a line that means something to Org.")

(defun rlm-markdown-org--lines (string)
  "Return the lines of STRING, a paragraph."
  (let (lines)
    (dolist (part (rlm-org-split string))
      (let ((line (rlm-markdown-org--stripped part)))
        (cond ((not (and (string-match-p rlm-markdown-org-line-start line)
                         (get-text-property (string-match "[^ \t]" part) 'rlm-text part)))
               (push line lines))
              ((and lines (not (string-suffix-p "\\\\" (car lines))))
               (push (concat (pop lines) " " line) lines))
              (t (push (concat rlm-org-guard line) lines)))))
    (mapcan #'rlm-markdown-org--broken (nreverse lines))))

(defun rlm-markdown-org--stripped (part)
  "Return PART, a line, without properties and blanks at its ends."
  (let ((beg 0) (end (length part)))
    (while (and (< beg end) (memq (aref part beg) '(?\s ?\t)))
      (setq beg (1+ beg)))
    (while (and (< beg end) (memq (aref part (1- end)) '(?\s ?\t)))
      (setq end (1- end)))
    (substring-no-properties part beg end)))

(defconst rlm-markdown-org--longest 4000
  "Lines longer than this are broken at a blank, or at twice that anywhere.")

(defun rlm-markdown-org--broken (line)
  "Return LINE as a list of lines that are not too long."
  (let (lines)
    (while (> (length line) rlm-markdown-org--longest)
      (let* ((blank (string-match "[ \t][[:alpha:]]" line rlm-markdown-org--longest))
             (most (min (length line) (* 2 rlm-markdown-org--longest)))
             (at (if (and blank (< blank most)) blank most)))
        (push (substring line 0 at) lines)
        (setq line (string-trim-left (substring line at)))))
    (nreverse (if (string-empty-p line) (or lines (list line)) (cons line lines)))))

(provide 'rlm-markdown-org)
;;; rlm-markdown-org.el ends here
