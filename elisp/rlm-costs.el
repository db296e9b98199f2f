;;; rlm-costs.el --- What models have cost  -*- lexical-binding: t; -*-

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

;; `rlm-costs' shows the server's ledger: what each model has cost in each
;; month for each project.  Below each month stand its totals, with the
;; limits that are set.  What is unknown is shown as unknown, never as zero.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'rlm-run)
(require 'rlm-table)

(defconst rlm-costs--buffer "*rlm costs*"
  "Name of the buffer with the ledger.")

(define-derived-mode rlm-costs-mode rlm-table-mode "rlm costs"
  "Major mode of the ledger of costs.

\\{rlm-costs-mode-map}"
  :interactive nil
  (setq rlm-table-method 'rlm/costs
        rlm-table-rows-function #'rlm-costs--rows
        tabulated-list-format
        (rlm-table-columns '("Month" 8) '("Project" 18) '("Model" 26)
                           '("Runs" 6 number) '("Calls" 8 number) '("Cached" 8 number)
                           '("Tokens in" 13 number) '("Tokens out" 12 number)
                           '("Cost" 24 number)))
  (tabulated-list-init-header))

;;;###autoload
(defun rlm-costs ()
  "Show what models have cost, by month, project and model."
  (interactive)
  (rlm-table-show rlm-costs--buffer #'rlm-costs-mode))

(defun rlm-costs--rows (ledger)
  "Return the rows for LEDGER, the server's answer: each month, then its totals."
  (let ((problem (plist-get ledger :problem)))
    (unless (member problem '(nil ""))
      (message "rlm: costs are not noted: %s" problem)))
  (let ((months (seq-group-by (lambda (row) (plist-get row :month))
                              (append (plist-get ledger :rows) nil))))
    (mapcan (pcase-lambda (`(,month . ,rows))
              (append (mapcar #'rlm-costs--row rows)
                      (rlm-costs--totals month rows ledger)))
            months)))

(defun rlm-costs--row (row)
  "Return the list's row for ROW, a plist."
  (list (list (plist-get row :month) (plist-get row :project) (plist-get row :model))
        (rlm-costs--cells row (or (plist-get row :project) "-") (plist-get row :model))))

(defun rlm-costs--cells (row project model)
  "Return the cells for ROW, a plist, with the names PROJECT and MODEL."
  (vector (plist-get row :month) project model
          (rlm-table-cell (plist-get row :runs) (and (null (plist-get row :runs)) ""))
          (rlm-table-cell (plist-get row :calls))
          (rlm-table-cell (plist-get row :cachedCalls))
          (rlm-table-cell (plist-get row :promptTokens))
          (rlm-table-cell (plist-get row :completionTokens))
          (rlm-table-cell (plist-get row :cost) (rlm-costs--cost row))))

(defun rlm-costs--cost (row)
  "Return the text for the cost of ROW, a plist."
  (let ((cost (plist-get row :cost))
        (known (plist-get row :knownCost)))
    (cond (cost (rlm-figure-cost cost))
          ((> known 0) (format "%s and unknown" (rlm-figure-cost known)))
          (t "unknown"))))

;;;; Totals

(defun rlm-costs--totals (month rows ledger)
  "Return the totals of ROWS, those of MONTH in LEDGER.
The present month has one also for each project that has a limit."
  (let ((present (equal month (plist-get ledger :month))))
    (append
     (and present
          (cl-loop for (name limit) on (plist-get ledger :projectLimits) by #'cddr
                   for project = (substring (symbol-name name) 1)
                   collect (rlm-costs--total
                            (seq-filter (lambda (row) (equal project (plist-get row :project)))
                                        rows)
                            month project limit)))
     (list (rlm-costs--total rows month "all" (and present (plist-get ledger :limit)))))))

(defun rlm-costs--total (rows month project limit)
  "Return the total of ROWS, those of PROJECT in MONTH, with its LIMIT or nil."
  (let* ((sum (append (list :month month) (rlm-costs--sum rows)))
         (cells (rlm-costs--cells sum project (if limit
                                                  (format "total, limit %s" (rlm-figure-cost limit))
                                                "total"))))
    (list (list month project 'total)
          (vconcat (mapcar (lambda (cell) (propertize cell 'face 'bold)) cells)))))

(defun rlm-costs--sum (rows)
  "Return the sum of ROWS as a plist.
Without the number of runs: the same one may be in several rows."
  (let ((sum (mapcan (lambda (name)
                       (list name (apply #'+ (mapcar (lambda (row) (plist-get row name)) rows))))
                     (list :calls :cachedCalls :promptTokens :completionTokens :knownCost))))
    (append (list :cost (and (seq-every-p (lambda (row) (plist-get row :cost)) rows)
                             (plist-get sum :knownCost)))
            sum)))

(provide 'rlm-costs)
;;; rlm-costs.el ends here
