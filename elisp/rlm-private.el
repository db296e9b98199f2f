;;; rlm-private.el --- Values kept in private files  -*- lexical-binding: t; -*-

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

;; Settings and collections are Lisp values, each in a file that only its
;; owner can read.  It is written under another name first and then renamed,
;; so that the file is never half written, and the old one stays if the new
;; one can't be written.

;;; Code:

(defun rlm-private-write (file value)
  "Write VALUE, which has a read syntax, to FILE, for its owner alone."
  (let ((directory (file-name-directory file))
        (coding-system-for-write 'utf-8-emacs-unix)
        (print-length nil) (print-level nil) (print-circle nil)
        new)
    (with-file-modes #o700
      (make-directory directory t))
    (unwind-protect
        (with-temp-buffer
          ;; `make-temp-file' makes files that only their owner can read.
          (setq new (make-temp-file (concat file ".new-")))
          (let ((standard-output (current-buffer)))
            (insert ";; -*- mode: lisp-data; coding: utf-8-emacs-unix -*-\n")
            (prin1 value)
            (insert "\n"))
          (write-region nil nil new nil 'silent)
          (rename-file new file t)
          (setq new nil))
      (when new
        (ignore-errors (delete-file new))))))

(defun rlm-private-read (file)
  "Return the value in FILE, or nil if there is none that can be read."
  (when (file-readable-p file)
    (with-temp-buffer
      (let ((coding-system-for-read 'utf-8-emacs-unix))
        (insert-file-contents file))
      (condition-case nil
          (let (read-circle)
            (read (current-buffer)))
        ((error invalid-read-syntax) nil)))))

(provide 'rlm-private)
;;; rlm-private.el ends here
