;;; rlm-runs-filter.el --- Which runs are listed, and in which order  -*- lexical-binding: t; -*-

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

;; The server filters, sorts and cuts the list of runs, so that thousands of
;; them cost nothing here.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'tabulated-list)
(require 'rlm-table)

(defcustom rlm-runs-limit 200
  "How many runs `rlm-runs' lists at first; `\\<rlm-runs-mode-map>\\[rlm-runs-more]' shows more."
  :group 'rlm
  :type 'natnum
  :package-version '(rlm . "0.1.0"))

(defvar-local rlm-runs--limit nil
  "How many runs this list has at most.")

(defvar-local rlm-runs--filter nil
  "What the runs of this list match, a plist of :text, :status and :project.")

(defvar-local rlm-runs--total nil
  "How many runs match the filter, shown here or not.")

(defvar-local rlm-runs--summaries nil
  "The runs of this list, plists as the server gives them.")

(defconst rlm-runs--orders
  '(("Question" . "question") ("Status" . "status") ("Started" . "started")
    ("Model" . "rootModel") ("Project" . "project") ("Cost" . "cost") ("Time" . "seconds"))
  "Columns, and how the server calls the order by them.")

(defun rlm-runs--params ()
  "Return what the server is asked for."
  (append (list :limit rlm-runs--limit)
          (pcase tabulated-list-sort-key
            (`(,column . ,flipped)
             (list :sort (cdr (assoc column rlm-runs--orders))
                   :ascending (if flipped :json-false t))))
          rlm-runs--filter))

;;;; Filtering

(defun rlm-runs--filter-text ()
  "Return the filter of the list for people."
  (string-join (cl-loop for (_name value) on rlm-runs--filter by #'cddr collect value) ", "))

(defun rlm-runs--set-filter (name value)
  "Let VALUE, nil or empty for any, be what NAME of the filter has to match."
  (setq rlm-runs--filter
        (cl-loop for (other old) on rlm-runs--filter by #'cddr
                 unless (eq other name) nconc (list other old)))
  (unless (member value '(nil ""))
    (setq rlm-runs--filter (append rlm-runs--filter (list name value))))
  (rlm-table-refresh))

(defun rlm-runs-filter (words)
  "Filter by WORDS, each of which has to be in question, project, model or id.
With no words, show all."
  (interactive (list (read-string "Only runs with the words (empty: all): "
                                  (plist-get rlm-runs--filter :text)))
               rlm-runs-mode)
  (rlm-runs--set-filter :text (string-trim words)))

(defun rlm-runs-filter-status (status)
  "Filter by STATUS; with an empty one, show all."
  (interactive (list (completing-read "Only runs that are (empty: all): "
                                      '("running" "done" "limit" "cancelled" "failed"
                                        "interrupted")
                                      nil t))
               rlm-runs-mode)
  (rlm-runs--set-filter :status status))

(defun rlm-runs-filter-project (project)
  "Filter by PROJECT; with an empty one, show all."
  (interactive (list (completing-read
                      "Only runs of project (empty: all): "
                      (delete-dups (delq nil (mapcar (lambda (run) (plist-get run :project))
                                                     rlm-runs--summaries)))))
               rlm-runs-mode)
  (rlm-runs--set-filter :project project))

;;;; Order and number

(defun rlm-runs-sort (&optional column)
  "Sort by the column at point all that there are, also those not shown.
With a numeric prefix argument, sort by that COLUMN; -1: the newest first.
The same column again reverses the order."
  (interactive "P" rlm-runs-mode)
  (if (equal column -1)
      (progn (setq tabulated-list-sort-key nil)
             (tabulated-list-init-header)
             (rlm-table-refresh))
    (rlm-table-sort column)
    (rlm-runs--sort-all)))

(defun rlm-runs-sort-by-header (event)
  "Sort by the column of EVENT, a click, all that there are."
  (interactive "e" rlm-runs-mode)
  (tabulated-list-col-sort event)
  (with-current-buffer (window-buffer (posn-window (event-start event)))
    (rlm-runs--sort-all)))

(defun rlm-runs--sort-all ()
  "Let the server sort what is not shown here as well."
  (when (< (length rlm-runs--summaries) (or rlm-runs--total 0))
    (rlm-table-refresh)))

(defun rlm-runs-more ()
  "Show twice as many."
  (interactive nil rlm-runs-mode)
  (setq rlm-runs--limit (* 2 rlm-runs--limit))
  (rlm-table-refresh))

(provide 'rlm-runs-filter)
;;; rlm-runs-filter.el ends here
