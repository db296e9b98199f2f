;;; rlm-runs.el --- All runs, live and past  -*- lexical-binding: t; -*-

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

;; `rlm-runs' lists the runs that the server has logs of, the newest first:
;; to be opened, resumed, forked and deleted, and by commands of other files
;; compared and exported.  The list follows those that are going on.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-client)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-runs-filter)
(require 'rlm-table)
(require 'rlm-trajectory)

(declare-function rlm-resume-run "rlm-durable" (run &optional limits))

(autoload 'rlm-runs-compare "rlm-runs-compare" nil t)

(defconst rlm-runs--buffer "*rlm runs*"
  "Name of the buffer with the list.")

(defvar-local rlm-runs--host nil
  "Where the runs of this list are, as `rlm-server-host'.")

;;;; The list

(defvar rlm-runs-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'rlm-runs-open)
    (define-key map (kbd "SPC") #'rlm-runs-preview)
    (define-key map "m" #'rlm-runs-mark)
    (define-key map "u" #'rlm-runs-unmark)
    (define-key map "U" #'rlm-runs-unmark-all)
    (define-key map "/" #'rlm-runs-filter)
    (define-key map "s" #'rlm-runs-filter-status)
    (define-key map "P" #'rlm-runs-filter-project)
    (define-key map "+" #'rlm-runs-more)
    (define-key map [remap tabulated-list-sort] #'rlm-runs-sort)
    (define-key map [remap tabulated-list-col-sort] #'rlm-runs-sort-by-header)
    (define-key map "=" #'rlm-runs-compare)
    (define-key map "e" #'rlm-export-run)
    (define-key map "r" #'rlm-resume-run)
    (define-key map "f" #'rlm-fork-run)
    (define-key map "R" #'rlm-rerun)
    (define-key map "w" #'rlm-watch)
    (define-key map "k" #'rlm-runs-cancel)
    (define-key map "D" #'rlm-delete-runs)
    map)
  "Keys of `rlm-runs-mode'.")

(define-derived-mode rlm-runs-mode rlm-table-mode "rlm runs"
  "Major mode of the list of runs.

\\{rlm-runs-mode-map}"
  :interactive nil
  (setq tabulated-list-padding 2
        rlm-table-method 'rlm/runs
        rlm-table-params-function #'rlm-runs--params
        rlm-table-rows-function #'rlm-runs--rows
        rlm-table-live-function #'rlm-runs--live-p
        tabulated-list-format
        (rlm-table-columns (list "Question" (max 24 (- (window-width) 76)))
                           '("Status" 11) '("Started" 11 number) '("Model" 16) '("Project" 10)
                           '("Cost" 8 number) '("Time" 9 number)))
  (setq rlm-runs--limit rlm-runs-limit)
  (tabulated-list-init-header))

;;;###autoload
(defun rlm-runs ()
  "List every run, live or past, the newest first.
The list follows the live ones while it is visible."
  (interactive)
  (rlm-table-show rlm-runs--buffer #'rlm-runs-mode))

(defun rlm-runs--rows (answer)
  "Return a row for each run of ANSWER, the server's."
  (setq rlm-runs--summaries (append (plist-get answer :runs) nil)
        rlm-runs--host rlm-server-host
        rlm-runs--total (or (plist-get answer :total) (length rlm-runs--summaries))
        mode-line-process (rlm-runs--mode-line))
  (mapcar #'rlm-runs--row rlm-runs--summaries))

(defun rlm-runs--live-p ()
  "Return non-nil if the list has a run that is going on."
  (seq-some (lambda (run) (equal "running" (plist-get run :status))) rlm-runs--summaries))

(defun rlm-runs--mode-line ()
  "Return a text on the list for the mode line."
  (let ((count (length rlm-runs--summaries)))
    (concat (if (< count rlm-runs--total)
                (format " %s of %s" (rlm-figure-number count)
                        (rlm-figure-number rlm-runs--total))
              (format " %s" (rlm-figure-number count)))
            (if rlm-runs--filter (format " (%s)" (rlm-runs--filter-text)) ""))))

(defun rlm-runs--row (run)
  "Return the row of RUN, a plist."
  (let ((started (plist-get run :started)))
    (list (plist-get run :runId)
          (vector (replace-regexp-in-string "[ \t\n]+" " " (plist-get run :question))
                  (rlm-runs--status run)
                  (rlm-table-cell started (format-time-string
                                           (if (> (- (float-time) started) 15000000)
                                               "%Y-%m-%d" "%m-%d %H:%M")
                                           started))
                  (plist-get run :rootModel)
                  (or (plist-get run :project) "-")
                  (rlm-table-cell (plist-get run :cost) (rlm-figure-cost (plist-get run :cost)))
                  (rlm-table-cell (plist-get run :seconds)
                                  (rlm-figure-seconds (plist-get run :seconds)))))))

(defun rlm-runs--status (run)
  "Return the status of RUN, a plist, with a face."
  (let ((status (plist-get run :status)))
    (propertize status 'face (pcase status
                               ("running" 'rlm-header)
                               ("done" 'rlm-header-good)
                               ((or "limit" "cancelled") 'rlm-header-warning)
                               (_ 'rlm-header-bad)))))

;;;; Marks

(defun rlm-runs-mark ()
  "Mark the run in this line."
  (interactive nil rlm-runs-mode)
  (rlm-runs--at-point)
  (rlm-table-mark))

(defun rlm-runs-unmark ()
  "Remove the mark of the run in this line."
  (interactive nil rlm-runs-mode)
  (rlm-runs--at-point)
  (rlm-table-unmark))

(defun rlm-runs-unmark-all ()
  "Remove every mark."
  (interactive nil rlm-runs-mode)
  (rlm-table-unmark-all))

(defun rlm-runs--summary (id)
  "Return the run ID of this list, a plist."
  (when-let ((run (seq-find (lambda (run) (equal id (plist-get run :runId)))
                            rlm-runs--summaries)))
    (append run (list :host rlm-runs--host))))

(defun rlm-runs--at-point ()
  "Return the run in this line, a plist."
  (rlm-runs--summary (or (tabulated-list-get-id) (user-error "There is no run in this line"))))

(defun rlm-runs--marked ()
  "Return every marked run, else the one in this line."
  (or (delq nil (mapcar #'rlm-runs--summary (rlm-table-marked)))
      (list (rlm-runs--at-point))))

;;;; One run

(defun rlm-runs-open ()
  "Show the run in this line, drawn from its log; follow it if it is live."
  (interactive nil rlm-runs-mode)
  (rlm-client-open (rlm-runs--at-point)))

(defun rlm-runs-preview ()
  "Show the run in this line in another window, and stay here."
  (interactive nil rlm-runs-mode)
  (let ((run (rlm-runs--at-point)))
    (save-selected-window
      (rlm-client-open run))))

(defun rlm-runs-cancel ()
  "Cancel the run in this line, which ends with the best answer so far."
  (interactive nil rlm-runs-mode)
  (rlm-client-cancel (plist-get (rlm-runs--at-point) :runId))
  (rlm-table-refresh))

(defun rlm-runs-here ()
  "Return the run that is meant here, a plist: in a list, in its buffer, or chosen.
It may be of another server than is used now; see `rlm-client-reach'."
  (cond ((derived-mode-p 'rlm-runs-mode) (rlm-runs--at-point))
        ((and (rlm-run-in-buffer) (rlm-run-id (rlm-run-in-buffer)))
         (rlm-run-summary (rlm-run-in-buffer)))
        (t (rlm-read-run))))

;;;###autoload
(defun rlm-delete-runs (chosen)
  "Delete for good the log of each of CHOSEN, plists; transcripts stay.
Interactively, these are the marked ones, else the one in this line."
  (interactive
   (let ((runs (if (derived-mode-p 'rlm-runs-mode)
                   (rlm-runs--marked)
                 (list (rlm-runs-here)))))
     (unless (yes-or-no-p (if (cdr runs)
                              (format "Delete the logs of %d runs, for good? " (length runs))
                            (format "Delete the log of \"%s\", for good? "
                                    (truncate-string-to-width
                                     (plist-get (car runs) :question) 60 nil nil t))))
       (user-error "Nothing is deleted"))
     (list runs)))
  (when chosen
    (rlm-client-reach (car chosen)))
  ;; A run that is the beginning of a fork can go after that alone.
  (rlm-runs--delete (seq-sort-by (lambda (run) (or (plist-get run :started) 0)) #'> chosen) 0 0 nil))

(defun rlm-runs--delete (chosen count freed problems)
  "Delete the logs of CHOSEN, one after the other, and tell what came of all.
Before, COUNT were deleted, with FREED bytes, and there were PROBLEMS."
  (if (null chosen)
      (rlm-runs--deleted count freed problems)
    (rlm-rpc-ask 'rlm/delete (list :runId (plist-get (car chosen) :runId))
                 (lambda (result)
                   (rlm-runs--delete (cdr chosen) (1+ count) (+ freed (plist-get result :bytes))
                                     problems))
                 (lambda (text)
                   (rlm-runs--delete (cdr chosen) count freed (cons text problems))))))

(defun rlm-runs--deleted (count freed problems)
  "Tell how many were deleted, COUNT, with FREED bytes, and the PROBLEMS."
  (message "rlm: %s deleted, %s freed%s" (rlm-figure-count count "run") (rlm-figure-size freed)
           (if problems (concat "; " (car problems)) ""))
  (when-let ((buffer (get-buffer rlm-runs--buffer)))
    (with-current-buffer buffer
      (rlm-table-refresh))))

(provide 'rlm-runs)
;;; rlm-runs.el ends here
