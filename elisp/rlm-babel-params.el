;;; rlm-babel-params.el --- The header arguments of questions in an Org file  -*- lexical-binding: t; -*-

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

;; What the header arguments of a source block say: how its question is asked,
;; what it is about, and which shape its answer has to have.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'org)
(require 'org-element)
(require 'org-table)
(require 'ob)
(require 'rlm-ask)
(require 'rlm-collection)
(require 'rlm-context)
(require 'rlm-item)
(require 'rlm-settings)

(defun rlm-babel--param (name params)
  "Return the header argument NAME in PARAMS as a string, or nil."
  (let ((value (cdr (assq name params))))
    (cond ((null value) nil)
          ((and (stringp value) (string-blank-p value)) nil)
          ((stringp value) (string-trim value "[ \t\n\"]+" "[ \t\n\"]+"))
          (t (format "%s" value)))))

(defun rlm-babel--number (name params &optional default)
  "Return the header argument NAME in PARAMS as a number, or DEFAULT."
  (let ((text (rlm-babel--param name params)))
    (cond ((null text) default)
          ((string-match-p "\\`\\$?[0-9]*\\.?[0-9]+\\'" text)
           (string-to-number (string-remove-prefix "$" text)))
          (t (user-error "The header argument %s has to be a number, not %s" name text)))))

(defun rlm-babel--settings (params)
  "Return the settings that PARAMS, header arguments, say."
  (let ((preset (rlm-babel--param :preset params)))
    (append (list :rootModel (rlm-babel--param :model params)
                  :subModel (rlm-babel--param :sub-model params)
                  :maxDepth (rlm-babel--number :depth params)
                  :cost (rlm-babel--number :budget params)
                  :seconds (rlm-babel--number :seconds params)
                  :iterations (rlm-babel--number :iterations params)
                  :fresh (equal "yes" (rlm-babel--param :fresh params)))
            (and preset
                 (or (rlm-preset preset)
                     (user-error "There is no preset %s" preset))))))

(defun rlm-babel--schema (params)
  "Return the JSON Schema of the result that PARAMS want, or nil for text."
  (let ((results (cdr (assq :result-params params)))
        (cell '(:type ["string" "number"])))
    (cond ((or (member "table" results) (member "vector" results))
           `(:type "array" :items (:type "array" :items ,cell)))
          ((member "list" results)
           `(:type "array" :items ,cell)))))

(defun rlm-babel--context (params)
  "Return what the block with PARAMS is about: its :context and its variables."
  (let ((items (rlm-babel--items (or (rlm-babel--written-context)
                                     (cdr (assq :context params)))))
        (variables (org-babel--get-vars params)))
    (unless (or items variables)
      (user-error "What is the question about?  The block needs a :context or a :var"))
    (let ((context (if items
                       (rlm-collection-context items (rlm-babel--label items))
                     (rlm-context-make (buffer-name)))))
      (rlm-context-spooling context
        (setf (rlm-context-maker context)
              (lambda () (user-error "To ask it again, execute its block")))
        (pcase-dolist (`(,name . ,value) variables)
          (rlm-context-add-text context (format "%s" name) (rlm-babel--text value)))))))

(defun rlm-babel--label (items)
  "Return a few words for ITEMS."
  (if (cdr items) (format "%d things" (length items)) (rlm-item-name (car items))))

(defun rlm-babel--text (value)
  "Return VALUE, that of a variable, as text: tables with tabs between the cells."
  (cond ((stringp value) value)
        ((and (consp value) (seq-every-p (lambda (row) (or (eq row 'hline) (listp row))) value))
         (orgtbl-to-tsv value nil))
        ((listp value) (mapconcat (lambda (item) (format "%s" item)) value "\n"))
        (t (format "%s" value))))

(defun rlm-babel--items (context)
  "Return what CONTEXT, a header argument, names, as a list of items.
It is nil, a name, or a list of names."
  (cond ((null context) nil)
        ((listp context) (mapcan #'rlm-babel--items-named context))
        (t (let ((text (string-trim (format "%s" context))))
             (if (file-exists-p text)
                 (rlm-babel--items-named text)
               (mapcan #'rlm-babel--items-named
                       (condition-case nil
                           (split-string-and-unquote text)
                         (end-of-file (user-error "A quote in :context is not closed: %s"
                                                  text)))))))))

(defun rlm-babel--written-context ()
  "Return the :context of the block at point as it is written, if Org loses some.
Before 9.6 it keeps the first of several names in quotes alone."
  (when (version< (org-version) "9.6")
    (let ((block (org-element-at-point)))
      (when (eq 'src-block (org-element-type block))
        (let ((written (string-join (append (org-element-property :header block)
                                            (list (org-element-property :parameters block)))
                                    " ")))
          (and (string-match
                ":context[ \t]+\\(\"[^\"]*\"\\(?:[ \t]+\"[^\"]*\"\\)+\\)[ \t]*\\(?:[ \t]:\\|\\'\\)"
                written)
               (match-string 1 written)))))))

(defun rlm-babel--items-named (name)
  "Return what NAME, a word of the header argument :context, stands for."
  (pcase name
    ("buffer" (list (save-restriction
                      (widen)
                      (rlm-item-of-buffer "buffer"))))
    ("subtree" (save-excursion
                 (org-back-to-heading t)
                 (list (rlm-item-of-part (point)
                                         (save-excursion (org-end-of-subtree t t))
                                         "subtree" t))))
    ("project" (list (rlm-item-of-file (let ((place (rlm-settings-place)))
                                         (if (eq place t)
                                             (user-error "There is no project here")
                                           place))
                                       "project")))
    ("collection" (or (rlm-collection-items rlm-collection-current)
                      (user-error "Nothing is collected")))
    (_ (mapcar (lambda (file) (rlm-item-of-file file "block"))
               (rlm-ask-expand-file name)))))

(provide 'rlm-babel-params)
;;; rlm-babel-params.el ends here
