;;; rlm-code.el --- The buffer in which code for a run is written  -*- lexical-binding: t; -*-

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

;; Code for a run is written or changed in a buffer of its own, and then
;; run, dropped, or made the beginning of a fork.  What these do is said by
;; who opens the buffer.

;;; Code:

(require 'subr-x)

(defvar python-indent-guess-indent-offset-verbose)

(defvar-local rlm-code--run #'ignore
  "Function called with the code of this buffer to run it.")

(defvar-local rlm-code--drop #'ignore
  "Function called without arguments when the code of this buffer is dropped.")

(defvar-local rlm-code--fork nil
  "Function called with the code of this buffer to fork a run with it, or nil.")

(defvar rlm-code-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c C-c") #'rlm-code-run)
    (define-key map (kbd "C-c C-f") #'rlm-code-fork)
    (define-key map (kbd "C-c C-k") #'rlm-code-drop)
    map)
  "Keys of `rlm-code-mode'.")

(define-minor-mode rlm-code-mode
  "Minor mode of a buffer with code for a run."
  :lighter " rlm"
  :interactive nil)

(defun rlm-code-open (name text runs drops run drop &optional fork)
  "Show a buffer NAME with TEXT, code to be edited.
RUNS and DROPS say what its two keys do; RUN and DROP are the functions that
do it.  FORK is the function that forks a run with the code, if any."
  (let ((buffer (generate-new-buffer name)))
    (with-current-buffer buffer
      (insert text)
      (goto-char (point-min))
      (let ((python-indent-guess-indent-offset-verbose nil))
        (delay-mode-hooks (python-mode)))
      (rlm-code-mode)
      (setq rlm-code--run run
            rlm-code--drop drop
            rlm-code--fork fork)
      (setq-local header-line-format
                  (substitute-command-keys
                   (format " \\<rlm-code-mode-map>\\[rlm-code-run] %s,%s \\[rlm-code-drop] %s"
                           runs (if fork " \\[rlm-code-fork] forks the run with it," "")
                           drops)))
      (set-buffer-modified-p nil))
    (pop-to-buffer buffer)))

(defun rlm-code-check (code)
  "Return CODE if it may be run, or signal what is wrong with it."
  (when (string-blank-p code)
    (user-error "There is no code"))
  (when (> (length code) 16384)
    (user-error "This is %d characters long, and may be 16,384" (length code)))
  code)

(defun rlm-code-keep (code)
  "Keep CODE, which could not be run, in the kill ring; return words on that.
Its buffer is gone by then.  Without code, return the empty string."
  (if (not code)
      ""
    (kill-new code)
    (substitute-command-keys "  (\\[yank] inserts your code)")))

(defun rlm-code--text ()
  "Return the code of this buffer, all of it."
  (save-restriction
    (widen)
    (rlm-code-check (buffer-substring-no-properties (point-min) (point-max)))))

(defun rlm-code-run ()
  "Run the code of this buffer."
  (interactive nil rlm-code-mode)
  (rlm-code--leave rlm-code--run (rlm-code--text)))

(defun rlm-code-fork ()
  "Begin a run that is like the one this code is of, but for this code.
Everything that came before it is shared."
  (interactive nil rlm-code-mode)
  (rlm-code--leave (or rlm-code--fork (user-error "No run can be forked with this code"))
                   (rlm-code--text)))

(defun rlm-code-drop ()
  "Don't run the code of this buffer."
  (interactive nil rlm-code-mode)
  (rlm-code--leave rlm-code--drop))

(defun rlm-code--leave (function &rest arguments)
  "Call FUNCTION with ARGUMENTS, and leave this buffer unless that is quit."
  (let ((buffer (current-buffer)))
    (apply function arguments)
    (when (buffer-live-p buffer)
      (with-current-buffer buffer
        (set-buffer-modified-p nil))
      (quit-windows-on buffer t))))

(provide 'rlm-code)
;;; rlm-code.el ends here
