;;; rlm-dired.el --- Ask about marked files  -*- lexical-binding: t; -*-

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

;; Marked files and directories of a Dired buffer as a question's context.

;;; Code:

(require 'dired)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-context-files)

(defun rlm-dired-marked-p ()
  "Return non-nil if this is a Dired buffer in which something is marked."
  (and (derived-mode-p 'dired-mode)
       (save-excursion
         (goto-char (point-min))
         (re-search-forward (dired-marker-regexp) nil t))
       t))

(defun rlm-dired-files ()
  "Return what is marked, else the file at point, else the directory itself."
  (unless (derived-mode-p 'dired-mode)
    (user-error "This is not a Dired buffer"))
  (or (and (or (rlm-dired-marked-p) (dired-get-filename nil t))
           (seq-remove (lambda (file) (string-match-p "/\\.\\.?\\'" file))
                       (ignore-errors (dired-get-marked-files))))
      (list (dired-current-directory))))

;;;###autoload
(defun rlm-ask-dired (question &optional files options)
  "Ask QUESTION about the marked files and directories of this Dired buffer.
With nothing marked, about the file at point; on no file, about the
directory.  From Lisp, FILES is a list of what to ask about.
With a prefix argument, choose the models first.  From Lisp, OPTIONS is a
plist as for `rlm-ask-about'."
  (interactive
   (let ((files (rlm-dired-files))
         (options (rlm-read-options)))
     (list (rlm-read-question (rlm-dired--label files)) files options)))
  (let ((files (or files (rlm-dired-files))))
    (rlm-ask-about question
                   (rlm-context-of-files files (rlm-dired--label files) default-directory)
                   options)))

(defun rlm-dired--label (files)
  "Return a few words for FILES."
  (if (cdr files)
      (format "%d marked files" (length files))
    (file-name-nondirectory (directory-file-name (car files)))))

(provide 'rlm-dired)
;;; rlm-dired.el ends here
