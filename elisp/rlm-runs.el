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
;; to be opened, compared, exported, resumed and deleted.  The server
;; filters, so that thousands of them cost nothing here; the list follows
;; those that are going on.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-client)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-table)
(require 'rlm-trajectory)

(declare-function rlm-resume-run "rlm-durable" (run &optional limits))
(declare-function ediff-buffers "ediff" (buffer-a buffer-b &optional startup-hooks job-name))

(defcustom rlm-runs-limit 200
  "How many runs `rlm-runs' lists at first; `\\<rlm-runs-mode-map>\\[rlm-runs-more]' shows more."
  :group 'rlm
  :type 'natnum
  :package-version '(rlm . "0.1.0"))

(defconst rlm-runs--buffer "*rlm runs*"
  "Name of the buffer with the list.")

(defvar-local rlm-runs--limit nil
  "How many runs this list has at most.")

(defvar-local rlm-runs--filter nil
  "What the runs of this list match, a plist of :text, :status and :project.")

(defvar-local rlm-runs--total nil
  "How many runs match the filter, shown here or not.")

(defvar-local rlm-runs--summaries nil
  "The runs of this list, plists as the server gives them.")

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
  (unless rlm-runs--limit
    (setq rlm-runs--limit rlm-runs-limit))
  (tabulated-list-init-header))

;;;###autoload
(defun rlm-runs ()
  "List every run, live or past, the newest first.
The list follows the live ones while it is visible."
  (interactive)
  (rlm-table-show rlm-runs--buffer #'rlm-runs-mode))

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

(defun rlm-runs--rows (answer)
  "Return a row for each run of ANSWER, the server's."
  (setq rlm-runs--summaries (append (plist-get answer :runs) nil)
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

(defun rlm-runs--filter-text ()
  "Return the filter of the list for people."
  (string-join (cl-loop for (_name value) on rlm-runs--filter by #'cddr collect value) ", "))

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

;;;; Filtering

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

(defun rlm-runs-sort (&optional column)
  "Sort by the column at point all that there are, also those not shown.
With a numeric prefix argument, sort by that COLUMN; -1: the newest first.
The same column again reverses the order."
  (interactive "P" rlm-runs-mode)
  (if (equal column -1)
      (progn (setq tabulated-list-sort-key nil)
             (tabulated-list-init-header)
             (rlm-table-refresh))
    (tabulated-list-sort column)
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
  (seq-find (lambda (run) (equal id (plist-get run :runId))) rlm-runs--summaries))

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
  "Return the run that is meant here, a plist: in a list, in its buffer, or chosen."
  (cond ((derived-mode-p 'rlm-runs-mode) (rlm-runs--at-point))
        ((and (rlm-run-in-buffer) (rlm-run-id (rlm-run-in-buffer)))
         (let ((run (rlm-run-in-buffer)))
           (list :runId (rlm-run-id run) :question (rlm-run-question run)
                 :status (rlm-run-status run) :log (rlm-run-log run))))
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
  (let ((left (length chosen)) (freed 0) (problems nil))
    (dolist (run chosen)
      (let ((next (lambda ()
                    (when (zerop (cl-decf left))
                      (rlm-runs--deleted (- (length chosen) (length problems)) freed problems)))))
        (rlm-rpc-ask 'rlm/delete (list :runId (plist-get run :runId))
                     (lambda (result)
                       (cl-incf freed (plist-get result :bytes))
                       (funcall next))
                     (lambda (text)
                       (push text problems)
                       (funcall next)))))))

(defun rlm-runs--deleted (count freed problems)
  "Tell how many were deleted, COUNT, with FREED bytes, and the PROBLEMS."
  (message "rlm: %s deleted, %s freed%s" (rlm-figure-count count "run") (rlm-figure-size freed)
           (if problems (concat "; " (car problems)) ""))
  (when-let ((buffer (get-buffer rlm-runs--buffer)))
    (with-current-buffer buffer
      (rlm-table-refresh))))

;;;; Exporting

(defconst rlm-runs--formats
  '(("org" . "org") ("html" . "html") ("markdown" . "md") ("python" . "py") ("rlms" . "jsonl"))
  "Formats of exports with the extensions of their files.")

;;;###autoload
(defun rlm-export-run (run format file)
  "Write RUN, a plist, to FILE in FORMAT.
That is org (the transcript), html (one page that needs nothing else),
markdown, python (all its code as one script), or rlms (the log of the
reference implementation)."
  (interactive
   (let* ((run (rlm-runs-here))
          (format (completing-read "Export as (org, html, markdown, python, rlms): "
                                   rlm-runs--formats nil t nil nil "html"))
          (name (file-name-sans-extension (rlm-runs--transcript-name run))))
     (list run format
           (read-file-name "Write it to: " nil nil nil
                           (concat name "." (cdr (assoc format rlm-runs--formats)))))))
  (let ((file (expand-file-name file)))
    (when (file-directory-p file)
      (user-error "%s is a directory" file))
    (when (and (called-interactively-p 'any) (file-exists-p file)
               (not (y-or-n-p (format "Replace %s? " (abbreviate-file-name file)))))
      (user-error "Not written"))
    (if (equal format "org")
        (rlm-runs--export-org run file)
      (unless (equal (file-remote-p file) rlm-server-host)
        (user-error "The server writes it, on %s; name a file there"
                    (or rlm-server-host "this machine")))
      (rlm-rpc-ask 'rlm/export (list :runId (plist-get run :runId) :format format
                                     :path (file-local-name file))
                   (lambda (result)
                     (message "rlm: %s written, %s" (abbreviate-file-name file)
                              (rlm-figure-size (plist-get result :bytes))))
                   (lambda (text) (message "rlm: it can't be exported: %s" text))))))

(defun rlm-runs--transcript-name (run)
  "Return the name of the transcript of RUN, a plist, without its directory."
  (rlm-transcript-name
   (rlm-run--make :id (plist-get run :runId) :question (plist-get run :question))))

(defun rlm-runs--export-org (run file)
  "Write RUN, a plist, to FILE as it is drawn."
  (let ((buffer (rlm-runs--drawn run)))
    (with-current-buffer buffer
      (rlm-transcript-write file))
    (message "rlm: %s written" (abbreviate-file-name file))))

(defun rlm-runs--drawn (run)
  "Return the buffer of RUN, a plist, once it is drawn; \\[keyboard-quit] quits."
  (let* ((buffer (save-window-excursion (rlm-client-open run)))
         (state (rlm-run-in-buffer buffer))
         (end (+ (float-time) 60)))
    ;; It is drawn when its first event is there and no more are awaited.
    (while (and (< (float-time) end)
                (buffer-live-p buffer)
                (or (null (rlm-run-started (setq state (rlm-run-in-buffer buffer))))
                    (rlm-trajectory-replaying-p buffer)))
      (accept-process-output nil 0.05)
      (rlm-trajectory-flush buffer))
    (unless (rlm-run-started state)
      (user-error "The log of this run can't be drawn"))
    (rlm-trajectory-flush buffer)
    buffer))

;;;; Comparing

(defun rlm-runs-compare (&optional differences)
  "Show two answers and their figures side by side.
They are of the two runs that are marked, else of the marked one and the
one in this line.  With a prefix argument, DIFFERENCES, compare them by Ediff."
  (interactive "P" rlm-runs-mode)
  (let* ((marked (delq nil (mapcar #'rlm-runs--summary (rlm-table-marked))))
         (runs (delete-dups (if (cdr marked) marked
                              (append marked (list (rlm-runs--at-point)))))))
    (unless (= 2 (length runs))
      (user-error "Mark two runs with m, or one and go to the other"))
    (let ((one (rlm-runs--answer-buffer (car runs) "A"))
          (two (rlm-runs--answer-buffer (cadr runs) "B")))
      (if differences
          (ediff-buffers one two)
        (delete-other-windows)
        (switch-to-buffer one)
        (set-window-buffer (split-window-right) two)))))

(defun rlm-runs--answer-buffer (run letter)
  "Return a buffer, named after LETTER, with figures and answer of RUN, a plist."
  (with-current-buffer (get-buffer-create (format "*rlm run %s*" letter))
    (let ((inhibit-read-only t))
      (erase-buffer)
      (insert (rlm-runs--facts run) "\n" (rlm-runs--answer (concat rlm-server-host (plist-get run :log))) "\n"))
    (special-mode)
    (setq truncate-lines nil word-wrap t)
    (goto-char (point-min))
    (current-buffer)))

(defun rlm-runs--facts (run)
  "Return the figures of RUN, a plist, as lines."
  (mapconcat (pcase-lambda (`(,name . ,value)) (format "%-11s %s\n" (concat name ":") value))
             `(("Question" . ,(plist-get run :question))
               ("Run" . ,(plist-get run :runId))
               ("Status" . ,(plist-get run :status))
               ("Model" . ,(plist-get run :rootModel))
               ("Project" . ,(or (plist-get run :project) "-"))
               ("Iterations" . ,(plist-get run :iterations))
               ("Sub-calls" . ,(plist-get run :subcalls))
               ("Cost" . ,(rlm-figure-cost (plist-get run :cost)))
               ("Time" . ,(rlm-figure-seconds (plist-get run :seconds))))
             ""))

(defun rlm-runs--answer (log)
  "Return the last answer in LOG, the file of a run, with its evidence."
  (let ((pieces nil) (evidence nil) (ended t))
    (with-temp-buffer
      (let ((coding-system-for-read 'utf-8))
        (insert-file-contents log))
      (while (re-search-forward "^{.*\"kind\":\"answer\".*$" nil t)
        (let ((event (ignore-errors
                       (json-parse-string (match-string 0) :object-type 'plist
                                          :false-object nil))))
          (when (equal "answer" (plist-get event :kind))
            (when ended
              (setq pieces nil))
            (push (plist-get event :text) pieces)
            (setq evidence (plist-get event :evidence)
                  ended (not (plist-get event :more)))))))
    (if (null pieces)
        "There is no answer."
      (concat (string-trim-right (apply #'concat (nreverse pieces))) "\n"
              (mapconcat (lambda (place)
                           (format "\n- %s:%s %s" (plist-get place :path)
                                   (plist-get place :line) (plist-get place :quote)))
                         evidence "")))))

(provide 'rlm-runs)
;;; rlm-runs.el ends here
