;;; rlm-export.el --- Write a run to a file  -*- lexical-binding: t; -*-

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

;; `rlm-export-run' writes a run as one file: as the Org text that is drawn
;; here, or by the server in a format for people without Emacs.

;;; Code:

(require 'rlm)
(require 'rlm-client)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-runs)
(require 'rlm-trajectory)
(require 'rlm-transcript)

(defconst rlm-export--formats
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
                                   rlm-export--formats nil t nil nil "html"))
          (name (file-name-sans-extension (rlm-export--transcript-name run))))
     (list run format
           (read-file-name "Write it to: " nil nil nil
                           (concat name "." (cdr (assoc format rlm-export--formats)))))))
  (let ((file (expand-file-name file)))
    (when (file-directory-p file)
      (user-error "%s is a directory" file))
    (when (and (called-interactively-p 'any) (file-exists-p file)
               (not (y-or-n-p (format "Replace %s? " (abbreviate-file-name file)))))
      (user-error "Not written"))
    (if (equal format "org")
        (rlm-export--org run file)
      (unless (equal (file-remote-p file) (rlm-client-host run))
        (user-error "The server writes it, on %s; name a file there"
                    (or (rlm-client-host run) "this machine")))
      (rlm-client-reach run)
      (rlm-rpc-ask 'rlm/export (list :runId (plist-get run :runId) :format format
                                     :path (file-local-name file))
                   (lambda (result)
                     (message "rlm: %s written, %s" (abbreviate-file-name file)
                              (rlm-figure-size (plist-get result :bytes))))
                   (lambda (text) (message "rlm: it can't be exported: %s" text))))))

(defun rlm-export--transcript-name (run)
  "Return the name of the transcript of RUN, a plist, without its directory."
  (rlm-transcript-name
   (rlm-run--make :id (plist-get run :runId) :question (plist-get run :question))))

(defun rlm-export--org (run file)
  "Write RUN, a plist, to FILE as it is drawn."
  (let ((shown (rlm-client-buffer (plist-get run :runId)))
        buffer written)
    (unwind-protect
        (progn
          (setq buffer (save-window-excursion (rlm-client-open run)))
          (rlm-export--wait buffer)
          (with-current-buffer buffer
            (rlm-transcript-write file))
          (setq written t))
      ;; It was drawn for the file alone, unless it goes on.
      (when (and (buffer-live-p buffer) (not shown)
                 (not (and written (rlm-run-live-p (rlm-run-in-buffer buffer)))))
        (rlm-client-discard buffer)))
    (message "rlm: %s written" (abbreviate-file-name file))))

(defconst rlm-export--patience 60
  "Seconds that a run may take to be drawn.")

(defun rlm-export--wait (buffer)
  "Wait until the run of BUFFER is drawn; \\[keyboard-quit] quits."
  (let ((state (rlm-run-in-buffer buffer))
        (end (+ (float-time) rlm-export--patience)))
    ;; It is drawn when its first event is there and no more are awaited.
    (while (and (< (float-time) end)
                (buffer-live-p buffer)
                (or (null (rlm-run-started (setq state (rlm-run-in-buffer buffer))))
                    (rlm-trajectory-replaying-p buffer)))
      (accept-process-output nil 0.05)
      (rlm-trajectory-flush buffer))
    (unless (buffer-live-p buffer)
      (user-error "The buffer of this run was killed; nothing is written"))
    (unless (rlm-run-started state)
      (user-error "The log of this run can't be drawn"))
    (when (rlm-trajectory-replaying-p buffer)
      (user-error "The run is not drawn yet; open it, and save it with s when it is"))
    (rlm-trajectory-flush buffer)))

(provide 'rlm-export)
;;; rlm-export.el ends here
