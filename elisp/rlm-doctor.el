;;; rlm-doctor.el --- What works and what does not  -*- lexical-binding: t; -*-

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

;; `rlm-doctor' shows each part of rlm, on this side and on the server's,
;; with the cure for what fails.  `rlm-status' shows the server, its models
;; and the runs that are going on.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm)
(require 'rlm-client)
(require 'rlm-commands)
(require 'rlm-run)

(defconst rlm-doctor--buffer "*rlm doctor*"
  "Name of the buffer with the doctor's report.")

(defconst rlm-doctor--status-buffer "*rlm status*"
  "Name of the buffer with the server's status.")

;;;; Buffers

(defmacro rlm-doctor--in-buffer (name revert &rest body)
  "Show the buffer NAME, made anew by evaluating BODY, and by g with REVERT."
  (declare (indent 2) (debug t))
  `(with-current-buffer (get-buffer-create ,name)
     (unless (derived-mode-p 'special-mode)
       (special-mode)
       (setq truncate-lines nil word-wrap t)
       (setq-local revert-buffer-function (lambda (&rest _) (funcall ,revert))))
     (let ((inhibit-read-only t))
       (erase-buffer)
       ,@body
       (goto-char (point-min))
       (set-buffer-modified-p nil))
     (unless (get-buffer-window nil t)
       (display-buffer (current-buffer)))))

;;;; The doctor

;;;###autoload
(defun rlm-doctor ()
  "Show each part of rlm, whether it works, and the cure where it does not."
  (interactive)
  (let ((rows (rlm-doctor--local-rows)))
    (rlm-doctor--show rows "Asking the server...")
    (rlm-rpc-ask
     'rlm/doctor nil
     (lambda (result)
       (rlm-doctor--show (append rows (rlm-doctor--server-row)
                                 (plist-get result :rows) nil)))
     (lambda (text)
       (rlm-doctor--show
        (append rows (list (rlm-doctor--row "server" "failure" text
                                            (rlm-doctor--server-cure))))))
     60)))

(defun rlm-doctor--row (part status detail &optional cure)
  "Return a row of the report for PART: STATUS, DETAIL and CURE."
  (list :part part :status status :detail detail :cure (or cure "")))

(defun rlm-doctor--local-rows ()
  "Return the rows of this side."
  (list (rlm-doctor--emacs-row) (rlm-doctor--command-row)
        (rlm-doctor--transcripts-row) (rlm-doctor--auth-row)))

(defun rlm-doctor--emacs-row ()
  "Return the row of Emacs itself."
  (rlm-doctor--row "emacs" "ok"
                   (format "%s, rlm.el %s, org %s" emacs-version rlm-rpc-client-version
                           (org-version))))

(defun rlm-doctor--command-row ()
  "Return the row of the server's command."
  (pcase (rlm-server-find)
    ((guard rlm-server-address)
     (rlm-doctor--row "server found" "ok" (format "at %s" rlm-server-address)))
    (`(,command ,how ,_)
     (rlm-doctor--row "server found" "ok"
                      (format "%s (%s)" (combine-and-quote-strings command) how)))
    (_ (rlm-doctor--row "server found" "failure" "no server on this machine"
                        (rlm-doctor--server-cure)))))

(defun rlm-doctor--server-cure ()
  "Return what to do where there is no server."
  "M-x rlm-install-server installs one; or set rlm-server-command to the command of one.")

(defun rlm-doctor--transcripts-row ()
  "Return the row of the directory of transcripts."
  (let ((directory rlm-transcript-directory))
    (cond ((null directory)
           (rlm-doctor--row "transcripts" "warning" "not saved"
                            "Set rlm-transcript-directory."))
          ((rlm-doctor--writable-p (expand-file-name directory))
           (rlm-doctor--row "transcripts" "ok" (abbreviate-file-name directory)))
          (t (rlm-doctor--row "transcripts" "failure"
                              (format "%s can't be written" (abbreviate-file-name directory))
                              "Set rlm-transcript-directory to one that can.")))))

(defun rlm-doctor--writable-p (directory)
  "Return non-nil if DIRECTORY, or the nearest there is above it, can be written."
  (let ((place (directory-file-name directory)))
    (while (not (file-exists-p place))
      (setq place (directory-file-name (file-name-directory place))))
    (and (file-directory-p place) (file-writable-p place))))

(defun rlm-doctor--auth-row ()
  "Return the row of auth-source."
  (if rlm-use-auth-source
      (rlm-doctor--row "auth-source" "ok" "asked for the keys that the server lacks")
    (rlm-doctor--row "auth-source" "ok" "not used (rlm-use-auth-source)")))

(defun rlm-doctor--server-row ()
  "Return the row of the connection, in a list."
  (let ((info (rlm-rpc-info)))
    (list (rlm-doctor--row "server" "ok"
                           (format "version %s, protocol %s, process %s"
                                   (plist-get info :serverVersion)
                                   (plist-get info :protocolVersion)
                                   (plist-get info :pid))))))

(defun rlm-doctor--show (rows &optional note)
  "Show ROWS, and NOTE below them."
  (rlm-doctor--in-buffer rlm-doctor--buffer #'rlm-doctor
    (let ((width (apply #'max 4 (mapcar (lambda (row) (length (plist-get row :part))) rows))))
      (dolist (row rows)
        (rlm-doctor--insert-row row width)))
    (insert (or note (rlm-doctor--verdict rows)) "\n")))

(defun rlm-doctor--insert-row (row width)
  "Insert ROW, with its part padded to WIDTH."
  (let* ((status (plist-get row :status))
         (cure (plist-get row :cure))
         (face (pcase status ("ok" 'success) ("warning" 'warning) (_ 'error)))
         (text (concat (string-pad (plist-get row :part) width) "  "
                       (propertize (string-pad status 7) 'face face)
                       "  " (plist-get row :detail) "\n")))
    (insert (propertize text 'wrap-prefix (make-string (+ width 11) ?\s)))
    (unless (or (equal status "ok") (string-empty-p cure))
      (insert (propertize (concat (make-string (+ width 8) ?\s) "-> " cure "\n")
                          'wrap-prefix (make-string (+ width 11) ?\s))))))

(defun rlm-doctor--verdict (rows)
  "Return a sentence that sums ROWS up."
  (let ((failures (cl-count "failure" rows :key (lambda (row) (plist-get row :status))
                            :test #'equal)))
    (concat "\n" (if (zerop failures)
                     "Everything that is needed works."
                   (format "%d of %d parts need a cure." failures (length rows))))))

;;;; The status

;;;###autoload
(defun rlm-status ()
  "Show the server, its models and its live questions."
  (interactive)
  (rlm-rpc-ask 'rlm/status nil #'rlm-doctor--show-status
               (lambda (text) (message "rlm: %s" text))))

(defun rlm-doctor--show-status (status)
  "Show STATUS, the server's."
  (rlm-doctor--in-buffer rlm-doctor--status-buffer #'rlm-status
    (insert (format "Server %s, process %s, up %s, isolation: %s%s\n\n"
                    (plist-get status :serverVersion) (plist-get status :pid)
                    (rlm-figure-seconds (plist-get status :seconds))
                    (or (plist-get (plist-get status :isolation) :mode) "not tried yet")
                    (if (eq (plist-get status :modelsReady) t) "" ", models are loading")))
    (insert "Models\n")
    (seq-doseq (model (plist-get status :models))
      (insert (rlm-doctor--model-line model)))
    (insert "\nRuns that are going on\n")
    (if (seq-empty-p (plist-get status :liveRuns))
        (insert "  none\n")
      (seq-doseq (run (plist-get status :liveRuns))
        (insert "  " (rlm--run-label run) "\n")))))

(defun rlm-doctor--model-line (model)
  "Return the line for MODEL, a plist."
  (format "  %s  %s  %s, key %s%s\n"
          (string-pad (plist-get model :name) 24) (string-pad (plist-get model :model) 32)
          (plist-get model :source) (plist-get model :key)
          (rlm-doctor--prices model)))

(defun rlm-doctor--prices (model)
  "Return what MODEL, a plist, costs."
  (let ((in (plist-get model :inputPrice))
        (out (plist-get model :outputPrice)))
    (cond ((not (and in out)) ", price unknown")
          ((and (zerop in) (zerop out)) ", free")
          (t (format ", $%s in and $%s out for a million tokens" in out)))))

(provide 'rlm-doctor)
;;; rlm-doctor.el ends here
