;;; rlm-consult.el --- Runs as a source of Consult  -*- lexical-binding: t; -*-

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

;; `rlm-consult-runs' chooses a run; `rlm-consult-source' can stand among
;; the sources of `consult-buffer':
;;
;;   (with-eval-after-load 'consult
;;     (require 'rlm-consult)
;;     (add-to-list 'consult-buffer-sources 'rlm-consult-source 'append))
;;
;; Consult need not be there for this file to load.

;;; Code:

(require 'subr-x)
(require 'rlm)
(require 'rlm-run)

(declare-function consult--multi "consult" (sources &rest options))
(declare-function rlm-client-open "rlm-client" (summary))
(declare-function rlm-rpc-call "rlm-rpc" (method params &optional timeout))
(declare-function rlm-rpc-live-p "rlm-rpc" ())

(defvar rlm-consult--runs nil
  "Alist of candidates and runs, plists, as they were last offered.")

(defvar rlm-consult-source
  (list :name "rlm runs"
        :narrow ?r
        :hidden t
        :category 'rlm-run
        :enabled #'rlm-consult--live-p
        :items #'rlm-consult--items
        :annotate #'rlm-consult--annotate
        :action #'rlm-consult--open)
  "Runs as a source of Consult; where no server runs, there are none.")

(defun rlm-consult--live-p ()
  "Return non-nil if a server is connected."
  ;; To look through one's buffers loads nothing.
  (and (featurep 'rlm-rpc) (rlm-rpc-live-p)))

(defun rlm-consult--items ()
  "Return a candidate for each run, the newest first; none without an answer."
  (condition-case nil
      (rlm-consult--ask)
    (rlm-rpc-error nil)))

(defun rlm-consult--ask ()
  "Return a candidate for each run that the server names, the newest first."
  (setq rlm-consult--runs
        (mapcar (lambda (run) (cons (rlm-consult--candidate run) run))
                (plist-get (rlm-rpc-call 'rlm/runs '(:limit 500) 5) :runs)))
  (mapcar #'car rlm-consult--runs))

(defun rlm-consult--candidate (run)
  "Return the candidate for RUN, a plist: its question and when it was asked."
  (format "%s  %s"
          (truncate-string-to-width
           (replace-regexp-in-string "[ \t\n]+" " " (plist-get run :question)) 80 nil nil t)
          (format-time-string "%F %T" (plist-get run :started))))

(defun rlm-consult--annotate (candidate)
  "Return what stands beside CANDIDATE: status, model, cost and project."
  (when-let ((run (cdr (assoc candidate rlm-consult--runs))))
    (format "  %s, %s, %s%s" (plist-get run :status) (plist-get run :rootModel)
            (rlm-figure-cost (plist-get run :cost))
            (if (plist-get run :project) (concat ", " (plist-get run :project)) ""))))

(defun rlm-consult--open (candidate)
  "Show the run that CANDIDATE stands for."
  (when-let ((run (cdr (assoc candidate rlm-consult--runs))))
    (require 'rlm-client)
    (rlm-client-open run)))

;;;###autoload
(defun rlm-consult-runs ()
  "Choose a run by Consult, and show it."
  (interactive)
  (unless (require 'consult nil t)
    (user-error "Consult is not installed; `rlm-open-run' chooses a run without it"))
  (require 'rlm-client)
  (let ((runs (condition-case problem
                  (rlm-consult--ask)
                (rlm-rpc-error (user-error "%s" (cadr problem))))))
    (unless runs
      (user-error "There are no runs yet"))
    (consult--multi (list (append (list :hidden nil :enabled nil :items runs) rlm-consult-source))
                    :prompt "Run: " :require-match t :sort nil)))

(provide 'rlm-consult)
;;; rlm-consult.el ends here
