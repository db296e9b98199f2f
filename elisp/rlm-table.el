;;; rlm-table.el --- What all lists share  -*- lexical-binding: t; -*-

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

;; A mode, for the lists of models, runs, costs and variables, whose buffer
;; asks the server for its rows and goes on meanwhile, and again while they
;; change and someone sees it.  And, for the list of what is collected as well:
;; marks that rows keep however they are sorted, and cells that show a number
;; for people but are sorted by its value.

;;; Code:

(require 'seq)
(require 'tabulated-list)
(require 'rlm-client)
(require 'rlm-rpc)
(require 'rlm-run)

(defvar-local rlm-table-method nil
  "The server's method that gives this buffer its rows.")

(defvar-local rlm-table-params-function #'ignore
  "Function that returns the parameters of the method.")

(defvar-local rlm-table-rows-function nil
  "Function that returns the rows of this buffer, given the server's answer.
The rows are as in `tabulated-list-entries'.")

(defvar-local rlm-table--asking nil
  "What is asked while an answer for this buffer is awaited, as (PARAMS), else nil.")

(defvar-local rlm-table-live-function nil
  "Function that returns non-nil if the rows of this buffer change by themselves.
Nil: they do not.  While a run of this Emacs goes on, they may in any case.")

(defvar-local rlm-table--marks nil
  "The rows that are marked: an alist of their ids and letters.")

(defconst rlm-table--garbage 32000000
  "Bytes that may be allocated for a list before garbage is collected.
Rows are kept: to collect in their midst finds nothing, and takes
most of the time.")

(define-derived-mode rlm-table-mode tabulated-list-mode "rlm table"
  "Major mode of lists that the server fills."
  :interactive nil
  (setq-local revert-buffer-function (lambda (&rest _) (rlm-table-refresh))
              tabulated-list-printer #'rlm-table-print-row)
  (add-hook 'window-buffer-change-functions (lambda (_window) (rlm-table-follow)) nil t))

(defun rlm-table-sort (&optional column)
  "Sort by the column at point, or by the first if point is before it.
With a numeric prefix argument, sort by that COLUMN.  The same column again
reverses the order."
  (interactive "P" tabulated-list-mode)
  (tabulated-list-sort (or column
                           (unless (get-text-property (point) 'tabulated-list-column-name)
                             0))))

(defun rlm-table-show (name mode)
  "Show the buffer NAME in MODE, and ask the server for its rows."
  (with-current-buffer (get-buffer-create name)
    (unless (derived-mode-p mode)
      (funcall mode))
    (pop-to-buffer (current-buffer))
    (unless tabulated-list-entries
      (rlm-table--say "Asking the server..."))
    (rlm-table-refresh)
    (current-buffer)))

(defun rlm-table-refresh ()
  "Ask the server for the rows of the current buffer, unless it is asked already.
If other rows are wanted when it answers, it is asked again."
  (unless rlm-table--asking
    (let ((buffer (current-buffer))
          (params (funcall rlm-table-params-function)))
      (setq rlm-table--asking (list params))
      (rlm-rpc-ask rlm-table-method params
                   (lambda (answer)
                     (rlm-table--answered
                      buffer (lambda () (rlm-table--fill answer))))
                   (lambda (text)
                     (rlm-table--answered
                      buffer (lambda () (rlm-table--fail text))))))))

(defun rlm-table--answered (buffer function)
  "Call FUNCTION in BUFFER, if it is live, now that the server has answered."
  (when (buffer-live-p buffer)
    (with-current-buffer buffer
      (let ((asked (car rlm-table--asking))
            (gc-cons-threshold (max gc-cons-threshold rlm-table--garbage)))
        (setq rlm-table--asking nil)
        (if (not (equal asked (funcall rlm-table-params-function)))
            (rlm-table-refresh)
          (funcall function)
          (rlm-table-follow))))))

(defun rlm-table--fill (answer)
  "Show the rows that ANSWER gives."
  (let ((rows (funcall rlm-table-rows-function answer)))
    (if rows
        (rlm-table-draw rows)
      (setq tabulated-list-entries nil)
      (rlm-table--say "There is nothing to show."))))

(defun rlm-table-draw (rows)
  "Show ROWS, each marked as it was, and everybody where they were.
ROWS are as in `tabulated-list-entries'."
  ;; Windows keep a point of their own beside the buffer's.
  (let ((places (mapcar (lambda (window)
                          (cons window (save-excursion
                                         (goto-char (window-point window))
                                         (rlm-table-place))))
                        (get-buffer-window-list nil nil t)))
        (place (rlm-table-place)))
    (setq tabulated-list-entries rows
          rlm-table--marks (seq-filter (lambda (mark) (assoc (car mark) rows))
                                       rlm-table--marks))
    (tabulated-list-print)
    (goto-char (rlm-table-position place))
    (pcase-dolist (`(,window . ,place) places)
      (set-window-point window (rlm-table-position place)))))

(defun rlm-table-place ()
  "Return where point is: the row, the line and the column."
  (list (tabulated-list-get-id) (line-number-at-pos) (current-column)))

(defun rlm-table-position (place)
  "Return the position of PLACE, or of the same line where its row is gone."
  (save-excursion
    (pcase-let ((`(,id ,line ,column) place))
      (goto-char (point-min))
      (while (not (or (eobp) (and id (equal id (tabulated-list-get-id)))))
        (forward-line))
      (when (or (null id) (eobp))
        (goto-char (point-min))
        (forward-line (1- line)))
      (move-to-column column)
      (point))))

(defun rlm-table--fail (text)
  "Say that the server could not be asked, and why: TEXT."
  (if tabulated-list-entries
      (message "rlm: %s" text)
    (rlm-table--say text)))

(defun rlm-table--say (text)
  "Show TEXT where the rows would be."
  (let ((inhibit-read-only t))
    (erase-buffer)
    (insert text "\n")
    (goto-char (point-min))
    (set-buffer-modified-p nil)))

;;;; Following

(defconst rlm-table--seconds 2
  "How often the server is asked for the rows of a list that changes.")

(defvar rlm-table--timer nil
  "Timer that asks for the rows of the lists that change, or nil.")

(defun rlm-table--followed ()
  "Return the lists that are seen and change by themselves now."
  (and (rlm-rpc-live-p)
       (seq-filter (lambda (buffer)
                     (with-current-buffer buffer
                       (and rlm-table-live-function
                            (get-buffer-window buffer 'visible)
                            (or (rlm-run-live-buffers) (funcall rlm-table-live-function)))))
                   (buffer-list))))

(defun rlm-table-follow ()
  "Ask again and again for the rows of the lists that change, while they are seen."
  (when (and (not rlm-table--timer) (rlm-table--followed))
    (setq rlm-table--timer
          (run-at-time rlm-table--seconds rlm-table--seconds #'rlm-table--tick))))

(defun rlm-table--tick ()
  "Ask for the rows of the lists that change, or stop if there is none."
  (let ((buffers (rlm-table--followed)))
    (dolist (buffer buffers)
      (with-current-buffer buffer
        (rlm-table-refresh)))
    (unless buffers
      (cancel-timer rlm-table--timer)
      (setq rlm-table--timer nil))))

(add-hook 'rlm-client-live-hook #'rlm-table-follow)

;;;; Marks

(defun rlm-table-print-row (id columns)
  "Draw the row ID with COLUMNS, and its mark: a value of `tabulated-list-printer'."
  (tabulated-list-print-entry id columns)
  (when-let ((sign (cdr (assoc id rlm-table--marks))))
    (save-excursion
      (forward-line -1)
      (tabulated-list-put-tag sign))))

(defun rlm-table-mark (&optional sign)
  "Mark the row in this line by SIGN, a letter, and go to the next one."
  (rlm-table--put-mark (or sign "*")))

(defun rlm-table-unmark ()
  "Remove the mark of the row in this line, and go to the next one."
  (rlm-table--put-mark nil))

(defun rlm-table--put-mark (sign)
  "Let SIGN, a letter or nil, be the mark of the row in this line."
  (when-let ((id (tabulated-list-get-id)))
    (setf (alist-get id rlm-table--marks nil t #'equal) sign))
  (tabulated-list-put-tag (or sign "") t))

(defun rlm-table-unmark-all ()
  "Remove every mark."
  (setq rlm-table--marks nil)
  (tabulated-list-clear-all-tags))

(defun rlm-table-marked ()
  "Return the ids of the rows that are marked, in the order of the rows."
  (when rlm-table--marks
    (let (ids)
      (save-excursion
        (goto-char (point-min))
        (while (not (eobp))
          (when (assoc (tabulated-list-get-id) rlm-table--marks)
            (push (tabulated-list-get-id) ids))
          (forward-line)))
      (nreverse ids))))

;;;; Columns and cells

(defun rlm-table-columns (&rest columns)
  "Return COLUMNS, each (NAME WIDTH) or (NAME WIDTH number), for the mode.
Those of numbers are sorted by their value and stand at the right."
  (let ((index -1))
    (vconcat (mapcar (pcase-lambda (`(,name ,width . ,number))
                       (setq index (1+ index))
                       (if number
                           (list name width (rlm-table--by-number index) :right-align t)
                         (list name width t)))
                     columns))))

(defun rlm-table--by-number (index)
  "Return a function that compares rows by the number in the cell INDEX.
What is unknown comes last."
  (lambda (one two)
    (let ((one (rlm-table--value (aref (cadr one) index)))
          (two (rlm-table--value (aref (cadr two) index))))
      (and one (or (null two) (< one two))))))

(defun rlm-table--value (cell)
  "Return the number in CELL, or nil."
  (get-text-property 0 'rlm-table-value cell))

(defun rlm-table-cell (value &optional text)
  "Return a cell for VALUE, a number or nil, with TEXT.
By default the text is that number, or the word unknown."
  (propertize (or text (if value (rlm-figure-number value) "unknown"))
              'rlm-table-value value))

(provide 'rlm-table)
;;; rlm-table.el ends here
