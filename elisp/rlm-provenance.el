;;; rlm-provenance.el --- What an answer is drawn from  -*- lexical-binding: t; -*-

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

;; Below an answer stands how much of the context models have read for it
;; and where, and which of its quotations, and of the places that it
;; names, can't be found there.  Those are marked in the answer as well.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-markdown-org)
(require 'rlm-org)
(require 'rlm-node)
(require 'rlm-run)

(declare-function rlm-draw-place-line "rlm-draw-answer" (place))
(declare-function rlm-draw-file "rlm-draw-answer" (uri &optional host))

(defface rlm-unverified
  '((((supports :underline (:style wave))) :underline (:style wave :color "orange red"))
    (t :inherit warning))
  "Face of what an answer quotes or names and the context does not have."
  :group 'rlm)

(defun rlm-provenance-share (part whole)
  "Return PART of WHOLE as a percentage for people."
  (let ((share (if (zerop whole) 0 (/ (* 100.0 part) whole))))
    (cond ((zerop part) "nothing")
          ((< share 0.1) "less than 0.1 %")
          ((< share 10) (format "%s %%" (string-remove-suffix ".0" (format "%.1f" share))))
          ((and (< part whole) (> share 99)) "over 99 %")
          (t (format "%.0f %%" share)))))

(defun rlm-provenance-sentence (provenance)
  "Return a sentence for PROVENANCE, an event, or nil if nothing is known."
  (let ((read (plist-get provenance :read))
        (whole (plist-get provenance :characters)))
    (when (and read (> whole 0))
      (format "This answer is drawn from %s of the context" (rlm-provenance-share read whole)))))

(defun rlm-provenance-draw (run answer)
  "Draw below the node ANSWER what is known of where RUN has it from."
  (when-let ((provenance (rlm-run-provenance run)))
    (when-let ((sentence (rlm-provenance-sentence provenance)))
      (rlm-provenance--reading provenance answer sentence))
    (let ((doubtful (seq-remove (lambda (quote) (equal (plist-get quote :status) "found"))
                                (plist-get provenance :quotes))))
      (when doubtful
        (rlm-provenance--doubts doubtful answer)
        (mapc (lambda (quote) (rlm-provenance--mark quote answer)) doubtful)))))

;;;; What was read

(defun rlm-provenance--reading (provenance answer sentence)
  "Draw what was read, PROVENANCE, under SENTENCE below the node ANSWER."
  (let ((node (rlm-node-add (concat (rlm-node-id answer) ".provenance") answer sentence)))
    (rlm-node-set node `(("RLM_READ" . ,(plist-get provenance :read))
                         ("RLM_LOOKED_THROUGH" . ,(plist-get provenance :lookedThrough))))
    (rlm-node-append
     node (format "Models have read %s of %s characters, in %s; code has looked through %s.\n"
                  (rlm-figure-number (plist-get provenance :read))
                  (rlm-figure-number (plist-get provenance :characters))
                  (rlm-figure-count (plist-get provenance :documents) "document")
                  (rlm-provenance-share (plist-get provenance :lookedThrough)
                                        (plist-get provenance :characters))))
    (unless (seq-empty-p (plist-get provenance :strip))
      (rlm-node-append node (rlm-provenance--strip (plist-get provenance :strip))))
    (mapc (lambda (stretch) (rlm-node-append node (rlm-provenance--stretch stretch)))
          (plist-get provenance :stretches))
    (rlm-node-fold node)))

(defun rlm-provenance--strip (shares)
  "Return a line for SHARES, percentages read of each hundredth."
  (concat ": |"
          (mapconcat (lambda (share)
                       (string (aref " ░▒▓█" (cond ((zerop share) 0) ((= share 100) 4)
                                                   (t (1+ (/ share 34)))))))
                     shares "")
          "|\n"))

(defun rlm-provenance--stretch (stretch)
  "Return the line for STRETCH, a part of a document that was read."
  (rlm-draw-place-line
   (rlm-provenance--place
    stretch (format "to line %d, %s"
                    (plist-get stretch :lastLine)
                    (rlm-figure-count (plist-get stretch :characters) "character")))))

(defun rlm-provenance--place (thing words)
  "Return the place of THING, a plist with a location, and WORDS.
It is as `rlm-draw-place-line' wants it."
  (list (rlm-draw-file (plist-get (plist-get thing :location) :uri)
                       (and rlm-run-current (rlm-run-host rlm-run-current)))
        (plist-get thing :line) (plist-get thing :path) words))

(defun rlm-provenance-held (documents)
  "Return in words how much a prompt has of each of DOCUMENTS."
  (if (seq-empty-p documents)
      ""
    (format ", with %s"
            (mapconcat (lambda (held)
                         (format "%s of %s" (rlm-figure-number (plist-get held :characters))
                                 (rlm-org-line (plist-get held :path) 100)))
                       documents ", "))))

;;;; What can't be found

(defun rlm-provenance--doubts (quotes answer)
  "List QUOTES, which can't be found as they are, below the node ANSWER."
  (let ((node (rlm-node-add (concat (rlm-node-id answer) ".doubts") answer
                            "Not to be found in the context")))
    (mapc (lambda (quote)
            (rlm-node-append node (rlm-provenance--doubt quote)))
          quotes)))

(defun rlm-provenance--doubt (quote)
  "Return the lines for QUOTE, which can't be found as it is."
  (let ((text (rlm-org-quotation (plist-get quote :text) 200)))
    (pcase (plist-get quote :status)
      ("like"
       (format "- “%s” is not there; something like it is:\n  %s"
               text (rlm-draw-place-line (rlm-provenance--place quote ""))))
      ("unchecked"
       (format "- “%s” was not found where models have read; the rest was not looked through\n"
               text))
      (_ (if (equal (plist-get quote :kind) "place")
             (format "- There is no %s\n" text)
           (format "- “%s”\n" text))))))

(defun rlm-provenance--mark (quote answer)
  "Mark QUOTE in the text of the node ANSWER."
  (unless (equal (plist-get quote :status) "unchecked")
    (goto-char (rlm-node-drawer answer))
    (let ((regexp (rlm-provenance--regexp (plist-get quote :text)))
          (case-fold-search nil))
      (when (re-search-forward regexp (rlm-node-body answer) t)
        (let ((overlay (make-overlay (match-beginning 0) (match-end 0))))
          (overlay-put overlay 'face 'rlm-unverified)
          (overlay-put overlay 'help-echo "This does not stand in the context"))))))

(defun rlm-provenance--regexp (text)
  "Return a regexp for TEXT, at most its first words, as it stands in the buffer."
  ;; What stands for emphasis and code is written otherwise in Org than in Markdown.
  (let ((marks (concat "[*/+=~" rlm-org-guard rlm-markdown-org-joiner "]*")))
    (mapconcat #'regexp-quote
               (seq-take (split-string (replace-regexp-in-string "[*`]+" " " text)) 30)
               (concat marks "[ \t\n>" rlm-org-guard "]+" marks))))

(provide 'rlm-provenance)
;;; rlm-provenance.el ends here
