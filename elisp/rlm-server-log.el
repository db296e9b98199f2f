;;; rlm-server-log.el --- The log of the rlm server  -*- lexical-binding: t; -*-

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

;; What the server writes to its standard error is kept in a buffer, the end
;; of it alone.

;;; Code:

(require 'seq)
(require 'subr-x)

(defconst rlm-server-log-buffer " *rlm log*"
  "Name of the buffer with what the server writes to its standard error.
By the space Emacs knows that nobody wants to see it who has not asked for it.")

(defconst rlm-server-log--size 200000
  "Most characters kept of the server's log.")

(defun rlm-server-log-pipe ()
  "Return a process that takes what the server writes to its standard error."
  ;; Without a buffer, Emacs would make one that is called as the process.
  (let* ((buffer (generate-new-buffer " *rlm log pipe*"))
         (pipe (make-pipe-process :name "rlm log" :noquery t :coding 'utf-8-unix :buffer buffer
                                  :filter (lambda (_process text) (rlm-server-log text))
                                  :sentinel #'ignore)))
    (set-process-buffer pipe nil)
    (kill-buffer buffer)
    pipe))

(defun rlm-server-log (text)
  "Append TEXT to the server's log, which never grows beyond its bound."
  (with-current-buffer (get-buffer-create rlm-server-log-buffer)
    (unless (derived-mode-p 'special-mode)
      (special-mode)
      (buffer-disable-undo))
    (rlm-server-append text)
    (when (> (buffer-size) rlm-server-log--size)
      (let ((inhibit-read-only t))
        (delete-region (point-min) (- (point-max) (/ (* 3 rlm-server-log--size) 4)))))))

(defun rlm-server-append (text)
  "Append TEXT to the current buffer, and show it where its end is shown."
  (let ((inhibit-read-only t)
        (at-end (= (point) (point-max)))
        (windows (seq-filter (lambda (window) (= (window-point window) (point-max)))
                             (get-buffer-window-list nil nil t))))
    (save-excursion
      (goto-char (point-max))
      (insert text))
    (when at-end
      (goto-char (point-max)))
    (dolist (window windows)
      (set-window-point window (point-max)))))

(defun rlm-server-log-last-words ()
  "Return the last line of the server's log in brackets, or the empty string."
  (if-let* ((buffer (get-buffer rlm-server-log-buffer))
            (text (string-trim (with-current-buffer buffer
                                 (buffer-substring (max (point-min) (- (point-max) 2000))
                                                   (point-max)))))
            (line (car (last (split-string text "\n" t)))))
      (if (string-prefix-p "$ " line)
          ""
        (format " (%s)" (truncate-string-to-width (string-trim line) 300 nil nil t)))
    ""))

;;;###autoload
(defun rlm-server-show-log ()
  "Show the server's log."
  (interactive)
  (display-buffer (get-buffer-create rlm-server-log-buffer)))

(provide 'rlm-server-log)
;;; rlm-server-log.el ends here
