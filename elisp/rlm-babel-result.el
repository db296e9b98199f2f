;;; rlm-babel-result.el --- What stands for an answer in an Org file  -*- lexical-binding: t; -*-

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

;; The result of a source block is Org text with its evidence and a link to the
;; run, a table or list where the model was told to answer with one, or a line.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm-node-parts)
(require 'rlm-org)
(require 'rlm-run)

(defun rlm-babel--link (target text)
  "Return a link to TARGET, the id of a run or the token of a block, with TEXT."
  (format "[[rlm:%s][%s]]" target text))

(defun rlm-babel--result (run problem params &optional inline)
  "Return the result of RUN, or PROBLEM, a sentence, as PARAMS want it.
If INLINE is non-nil, this is a single line."
  (let ((results (cdr (assq :result-params params)))
        (text (or problem (rlm-run-answer run))))
    (cond ((and (not problem) (rlm-run-typed run))
           (let ((value (rlm-run-value run)))
             (if (stringp value) (string-trim value) (rlm-babel--lisp value))))
          ((or problem (null text))
           (rlm-babel--failure run (or problem (rlm-run-reason run))))
          (inline (rlm-org-line text))
          ((or (member "raw" results) (member "drawer" results))
           (concat (rlm-node-prose text) (rlm-babel--evidence run) (rlm-babel--foot run)))
          ((member "org" results) (rlm-node-prose text))
          (t (string-trim text)))))

(defun rlm-babel--lisp (value)
  "Return VALUE, read from JSON, as Org's tables and lists are in Lisp.
Its strings are a model's, and made fit for an item or a cell."
  (pcase value
    ((pred vectorp)
     (mapcar (lambda (item)
               (if (vectorp item) (mapcar #'rlm-babel--cell item) (rlm-babel--lisp item)))
             value))
    ((pred stringp) (rlm-org-line value))
    (:json-false "false")
    ('nil "")
    ((and (pred consp) (guard (keywordp (car value))))
     (rlm-babel--lisp (json-serialize value :false-object :json-false)))
    (_ value)))

(defun rlm-babel--cell (value)
  "Return VALUE, read from JSON, as a cell of a table."
  (let ((value (rlm-babel--lisp value)))
    (if (stringp value) (string-replace "|" "\\vert{}" value) value)))

(defun rlm-babel--failure (run text)
  "Return what to insert where RUN gave no answer, for the reason TEXT."
  (let ((id (and run (rlm-run-id run))))
    (concat "No answer: " (rlm-org-line (or text "") 300)
            (if id (concat " " (rlm-babel--link id "the run")) ""))))

(defun rlm-babel--evidence (run)
  "Return the evidence of RUN as a list of links, or the empty string."
  (if-let ((places (seq-take (rlm-run-evidence run) 10)))
      (concat "\n"
              (mapconcat (pcase-lambda (`(,place ,line ,path ,quote))
                           (concat "- " (rlm-babel--place place line path) " "
                                   (rlm-org-quotation quote 80)))
                         places "\n")
              "\n")
    ""))

(defun rlm-babel--place (place line path)
  "Return a link to LINE of PLACE, a file's name or a URI, with the name PATH."
  (let ((text (format "%s:%d" (rlm-org-line path) line)))
    (if (or (string-prefix-p "rlm-buffer:" place) (string-match-p "[][\n]" place))
        text
      (format "[[file:%s::%d][%s]]" place line text))))

(defun rlm-babel--foot (run)
  "Return a line with a link to RUN and what it has used."
  (format "\n%s\n"
          (rlm-babel--link (rlm-run-id run)
                        (format "%s%s, %s, %s"
                                (if (equal "done" (rlm-run-status run)) ""
                                  (concat (rlm-run-status run) ": answer so far, "))
                                (rlm-run-model run)
                                (if (equal 0.0 (float (or (rlm-run-cost run) 1))) "no cost"
                                  (rlm-figure-cost (rlm-run-cost run)))
                                (rlm-figure-seconds (or (rlm-run-elapsed run) 0))))))

(provide 'rlm-babel-result)
;;; rlm-babel-result.el ends here
