;;; rlm-runs-compare.el --- Two runs side by side  -*- lexical-binding: t; -*-

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

;; What two runs of the list have answered, and their figures, beside each
;; other or by Ediff.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm-client)
(require 'rlm-run)
(require 'rlm-runs)
(require 'rlm-table)

(declare-function ediff-buffers "ediff" (buffer-a buffer-b &optional startup-hooks job-name))

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
    (let ((one (rlm-runs-compare--answer-buffer (car runs) "A"))
          (two (rlm-runs-compare--answer-buffer (cadr runs) "B")))
      (if differences
          (ediff-buffers one two)
        (delete-other-windows)
        (switch-to-buffer one)
        (set-window-buffer (split-window-right) two)))))

(defun rlm-runs-compare--answer-buffer (run letter)
  "Return a buffer, named after LETTER, with figures and answer of RUN, a plist."
  (with-current-buffer (get-buffer-create (format "*rlm run %s*" letter))
    (let ((inhibit-read-only t))
      (erase-buffer)
      (insert (rlm-runs-compare--facts run) "\n"
              (rlm-runs-compare--answer (concat (rlm-client-host run) (plist-get run :log))) "\n"))
    (special-mode)
    (setq truncate-lines nil word-wrap t)
    (goto-char (point-min))
    (current-buffer)))

(defun rlm-runs-compare--facts (run)
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

(defun rlm-runs-compare--answer (log)
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

(provide 'rlm-runs-compare)
;;; rlm-runs-compare.el ends here
