;;; rlm-transcript.el --- Runs saved as Org files  -*- lexical-binding: t; -*-

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

;; When a run has ended its buffer is saved as an Org file, which opens and
;; folds in any Emacs.

;;; Code:

(require 'subr-x)
(require 'rlm-run)

(defcustom rlm-transcript-directory (locate-user-emacs-file "rlm/transcripts/")
  "Directory in which the transcript of each run is saved when it ends.
Nil means not to save any."
  :group 'rlm
  :type '(choice (const :tag "Save none" nil) directory)
  :package-version '(rlm . "0.1.0"))

(defconst rlm-transcript-tail "\n\f\n# The end of the transcript.\n"
  "Text after a transcript.
Behind the form feed Emacs would look for local variables, so that nothing
a model has written can be taken for some.")

(defun rlm-transcript-name (run)
  "Return the name, without directory, of the transcript of RUN."
  (format "%s-%s.org"
          (replace-regexp-in-string "[^[:alnum:]-]" "" (or (rlm-run-id run) "unasked"))
          (let ((slug (string-trim (replace-regexp-in-string
                                    "[^[:alnum:]]+" "-" (downcase (rlm-run-question run)))
                                   "-+" "-+")))
            (string-trim-right (substring slug 0 (min 50 (length slug))) "-+"))))

(defun rlm-transcript-saved (run)
  "Return the name of the transcript of RUN if there is one, or nil."
  (when rlm-transcript-directory
    (let ((file (expand-file-name (rlm-transcript-name run)
                                  rlm-transcript-directory)))
      (and (file-exists-p file) file))))

(defun rlm-trajectory-save ()
  "Save the transcript of this buffer's run in `rlm-transcript-directory'.
If that can't be done, say so; the buffer stays as it is in any case."
  (interactive nil rlm-trajectory-mode)
  (let ((run rlm-run-current))
    (when (and (called-interactively-p 'interactive) (not rlm-transcript-directory))
      (user-error "`rlm-transcript-directory' is nil"))
    (when (and rlm-transcript-directory (rlm-run-id run))
      (let ((file (expand-file-name (rlm-transcript-name run)
                                    rlm-transcript-directory)))
        (condition-case problem
            (progn
              (make-directory rlm-transcript-directory t)
              (rlm-transcript-write file)
              (setf (rlm-run-transcript run) file)
              (message "rlm: transcript saved in %s" (abbreviate-file-name file)))
          (file-error
           (message "rlm: the transcript can't be saved (%s); buffer %s has it, %s"
                    (error-message-string problem) (buffer-name)
                    "and s there saves it again")))))))

(defun rlm-transcript-write (file)
  "Write the current buffer's text and the tail of transcripts to FILE."
  (let ((text (save-restriction (widen) (buffer-substring-no-properties (point-min) (point-max))))
        (coding-system-for-write 'utf-8-unix))
    (with-temp-buffer
      (insert text rlm-transcript-tail)
      (write-region nil nil file nil 'silent))))

(provide 'rlm-transcript)
;;; rlm-transcript.el ends here
