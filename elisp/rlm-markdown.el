;;; rlm-markdown.el --- Markdown as Org, while it arrives  -*- lexical-binding: t; -*-

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

;; What a model writes is Markdown, and arrives in pieces.  A converter,
;; made by `rlm-markdown-make', is fed with the pieces by
;; `rlm-markdown-feed' and ended by `rlm-markdown-finish'.  Both return what
;; is to be done now, a list of
;;
;;   (text . LINES)      whole lines of Org, after a blank line
;;   (more . LINES)      the same, without the blank line
;;   (open BEGIN . END)  a block of code begins, with these lines around it
;;   (code . TEXT)       more of that code, as it is
;;   (close)             the block has ended
;;
;; A block of text (a paragraph, a list, a table) is converted when it is
;; complete; `rlm-markdown-rest' is what can't be converted yet.  What comes
;; out does not depend on how the text was cut.  Each step is short: a block
;; of more than `rlm-markdown--most' characters is converted in parts.
;;
;; Nothing here touches a buffer of anybody else.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm-org)
(require 'rlm-markdown-blocks)
(require 'rlm-markdown-inline)
(require 'rlm-markdown-layout)

(defconst rlm-markdown--most 4000
  "How many characters are converted at once.")

(cl-defstruct (rlm-markdown (:constructor rlm-markdown-make ()) (:copier nil))
  "A converter."
  (lines nil :documentation "Whole lines that are not converted yet.")
  (partial "" :documentation "The line that has not ended yet.")
  (fence nil :documentation "Fence within which we are, as (SIGN LENGTH INDENT).")
  (begun nil :documentation "Whether some of the line that has not ended is out.")
  (last nil :documentation "The block that was out last.")
  (columns nil :documentation "How many columns the table has whose first part is out.")
  (definitions nil :documentation "Alist of the targets of reference links."))

;;;; Feeding

(defun rlm-markdown-feed (converter text)
  "Give TEXT to CONVERTER; return what is to be done now."
  (let* ((text (rlm-org-plain (rlm-org-joined (rlm-markdown-partial converter) text)))
         (end (rlm-org-last-line text)))
    (setf (rlm-markdown-partial converter) (if (zerop end) text (substring text end)))
    (nconc (and (> end 0)
                (rlm-markdown--take-in converter (split-string (substring text 0 (1- end)) "\n")))
           (and (> end 0) (rlm-markdown--work converter nil))
           (rlm-markdown--unended converter))))

(defun rlm-markdown-finish (converter)
  "End the text of CONVERTER; return what is to be done for its rest."
  (let ((rest (string-remove-suffix "\r" (rlm-markdown-partial converter))))
    (setf (rlm-markdown-partial converter) "")
    (nconc (unless (and (string-empty-p rest) (not (rlm-markdown-begun converter)))
             (rlm-markdown--take-in converter (list rest)))
           (rlm-markdown--work converter t)
           (when (rlm-markdown-fence converter)
             (setf (rlm-markdown-fence converter) nil)
             (list '(close))))))

(defun rlm-markdown-rest (converter)
  "Return the text of CONVERTER that is not converted yet."
  (if (rlm-markdown-fence converter)
      ""
    (concat (mapconcat (lambda (line) (concat line "\n")) (rlm-markdown-lines converter) "")
            (rlm-markdown-partial converter))))

(defun rlm-markdown-to-org (text)
  "Return TEXT, Markdown, as Org: empty, or whole lines."
  (let* ((converter (rlm-markdown-make))
         (steps (rlm-markdown-feed converter text)))
    (rlm-markdown--written (append steps (rlm-markdown-finish converter)))))

(defun rlm-markdown--written (work)
  "Return the Org text to which WORK leads."
  (let (result end code)
    (dolist (step work)
      (pcase step
        (`(,(and kind (or 'text 'more)) . ,lines)
         (when (and result (eq kind 'text)) (push "\n" result))
         (push (rlm-org-lines "" lines) result))
        (`(open ,begin . ,last)
         (when result (push "\n" result))
         (push (concat begin "\n") result)
         (setq end last code nil))
        (`(code . ,more) (push more code))
        (_ (push (rlm-org-block (apply #'concat (nreverse code))) result)
           (push (concat end "\n") result))))
    (apply #'concat (nreverse result))))

(defun rlm-markdown--take-in (converter lines)
  "Let CONVERTER have LINES, whole ones; return what is to be done now.
Lines that are too long are taken in parts."
  (let (steps short)
    (dolist (line lines)
      (if (<= (length line) rlm-markdown--most)
          (push line short)
        (rlm-markdown--queue converter (nreverse short))
        (setq short nil
              steps (nconc steps (rlm-markdown--work converter nil)))
        (pcase-let ((`(,more . ,rest) (rlm-markdown--shorten converter line)))
          (setq steps (nconc steps more))
          (push rest short))))
    (rlm-markdown--queue converter (nreverse short))
    steps))

(defun rlm-markdown--queue (converter lines)
  "Let LINES wait in CONVERTER, and note where reference links lead."
  (setf (rlm-markdown-lines converter) (nconc (rlm-markdown-lines converter) lines))
  (dolist (line lines)
    (when-let ((definition (and (string-search "]:" line) (rlm-markdown-definition line))))
      (push definition (rlm-markdown-definitions converter)))))

(defun rlm-markdown--shorten (converter line)
  "Let CONVERTER have the start of LINE while it is too long.
Return a cons of what is to be done now and the rest of LINE.
Code is left as it is."
  (let (steps)
    (while (and (> (length line) rlm-markdown--most)
                (not (rlm-markdown-fence converter)))
      (pcase-let ((`(,part . ,rest) (rlm-markdown--halved line)))
        (rlm-markdown--queue converter (list part))
        (setq line rest
              steps (nconc steps (rlm-markdown--work converter nil)))))
    (cons steps line)))

(defun rlm-markdown--unended (converter)
  "Return what is to be done where a line of CONVERTER doesn't end for long."
  (pcase-let ((`(,steps . ,rest)
               (rlm-markdown--shorten converter (rlm-markdown-partial converter))))
    (setf (rlm-markdown-partial converter) rest)
    (if (or (null (rlm-markdown-fence converter)) (<= (length rest) 1000))
        steps
      (setf (rlm-markdown-partial converter) "")
      (prog1 (nconc steps (list (cons 'code (rlm-markdown--code-text converter rest))))
        (setf (rlm-markdown-begun converter) t)))))

(defun rlm-markdown--halved (line)
  "Return LINE, a long one, as a cons of a first line and the rest.
Models write such lines only where they don't mean text."
  (let* ((most rlm-markdown--most)
         (blank (string-match-p "[ \t][^ \t]*\\'" (substring line 0 most)))
         (at (if (and blank (> blank (/ most 2))) (1+ blank) most)))
    (cons (substring line 0 at) (substring line at))))

;;;; One block after the other

(defun rlm-markdown--work (converter final)
  "Return what is to be done with the lines of CONVERTER; all of them if FINAL."
  (let (steps more)
    (while (setq more (if (rlm-markdown-fence converter)
                          (rlm-markdown--fenced converter)
                        (rlm-markdown--block converter final)))
      (push more steps))
    ;; Where reference links lead is nothing to be shown.
    (delete '(text) (apply #'nconc (nreverse steps)))))

(defun rlm-markdown--fenced (converter)
  "Return what is to be done with the lines of CONVERTER, which stand in a fence."
  (let (steps)
    (while (and (rlm-markdown-fence converter) (rlm-markdown-lines converter))
      (let ((line (pop (rlm-markdown-lines converter))))
        (if (and (not (rlm-markdown-begun converter))
                 (rlm-markdown-fence-end-p line (rlm-markdown-fence converter)))
            (progn (setf (rlm-markdown-fence converter) nil)
                   (push '(close) steps))
          (push (cons 'code (concat (rlm-markdown--code-text converter line) "\n")) steps)
          (setf (rlm-markdown-begun converter) nil))))
    (nreverse steps)))

(defun rlm-markdown--code-text (converter line)
  "Return LINE of CONVERTER, or its start, without what its fence is indented by."
  (if (rlm-markdown-begun converter)
      line
    (rlm-markdown-unindented line (nth 2 (rlm-markdown-fence converter)))))

(defun rlm-markdown--block (converter final)
  "Return what is to be done with the next block of CONVERTER; nil if nothing.
The last block is not complete before it is FINAL."
  (let ((lines (rlm-markdown-lines converter)) fence)
    (if (and (rlm-markdown-columns converter) (car lines) (string-search "|" (car lines)))
        (rlm-markdown--more-rows converter lines)
      (when lines
        (setf (rlm-markdown-columns converter) nil))
      (setf (rlm-markdown-lines converter)
            (setq lines (rlm-markdown-skip-blank lines)))
      (cond ((null lines) nil)
            ((setq fence (rlm-markdown-fence-start (car lines)))
             (setf (rlm-markdown-lines converter) (cdr lines)
                   (rlm-markdown-fence converter) (car fence)
                   (rlm-markdown-last converter) '(code))
             (list (cons 'open (rlm-markdown-layout-fence (cdr fence)))))
            (t (rlm-markdown--text-block converter lines final))))))

(defun rlm-markdown--text-block (converter lines final)
  "Return what is to be done with LINES of CONVERTER, which begin no code.
FINAL is as in `rlm-markdown--block'."
  (pcase-let* ((`(,window . ,more) (rlm-markdown--window lines))
               (taken (rlm-markdown-take window (and final (not more))))
               (rlm-markdown-references (rlm-markdown-definitions converter)))
    (cond ((and (null taken) more) (rlm-markdown--part converter window more))
          ((or (null taken)
               (not (or more final (rlm-markdown--resolved-p window (cdr taken)))))
           nil)
          (t (setf (rlm-markdown-lines converter) (append (cdr taken) more))
             (list (rlm-markdown--step converter (car taken)))))))

(defun rlm-markdown--window (lines)
  "Return a cons of the LINES that are looked at now, and those after them."
  (let ((room rlm-markdown--most) window)
    (while (and lines (or (null window) (> room 0)))
      (setq room (- room (length (car lines)) 1))
      (push (pop lines) window))
    (cons (nreverse window) lines)))

(defun rlm-markdown--step (converter block)
  "Return what is to be done to show BLOCK of CONVERTER."
  (let ((lines (rlm-markdown-layout (list block)))
        (before (rlm-markdown-last converter)))
    (when lines
      (setf (rlm-markdown-last converter) block))
    (cons 'text (if (rlm-markdown-layout-far-p before block) (cons "" lines) lines))))

(defun rlm-markdown--resolved-p (lines rest)
  "Return non-nil if it is known where the links in LINES before REST lead."
  (let (unknown)
    (while (not (or unknown (eq lines rest) (null lines)))
      (let ((line (pop lines)) (start 0))
        (while (and (not unknown) (string-match "\\]\\[\\([^][]+\\)\\]" line start))
          (setq start (match-end 0)
                unknown (not (assoc (rlm-markdown-label (match-string 1 line))
                                    rlm-markdown-references))))))
    (not unknown)))

;;;; Long blocks

(defun rlm-markdown--part (converter window more)
  "Return what is to be done with WINDOW, the start of a block of CONVERTER.
The block is too long to be converted at once; MORE are the lines after."
  (pcase-let* ((aligns (rlm-markdown-aligns window))
               (end (and (not aligns) (rlm-markdown-last-item window)))
               (`(,block . ,rest) (rlm-markdown-take (if end (seq-take window end) window) t)))
    (when aligns
      (setf (rlm-markdown-columns converter) (length aligns)))
    (setf (rlm-markdown-lines converter)
          (append rest (and end (seq-drop window end)) more))
    (prog1 (list (rlm-markdown--step converter block))
      ;; What follows goes on with the same list.
      (setf (rlm-markdown-last converter) nil))))

(defun rlm-markdown--more-rows (converter lines)
  "Return what is to be done with LINES of CONVERTER, more rows of a table."
  (pcase-let* ((`(,window . ,more) (rlm-markdown--window lines))
               (columns (rlm-markdown-columns converter))
               (rows (seq-take-while (lambda (line) (string-search "|" line)) window)))
    (setf (rlm-markdown-lines converter) (append (seq-drop window (length rows)) more))
    (list (cons 'more
                (rlm-markdown-layout
                 `((table ,(make-list columns nil) nil
                          ,@(mapcar (lambda (row) (rlm-markdown-cells row columns)) rows))))))))

(provide 'rlm-markdown)
;;; rlm-markdown.el ends here
