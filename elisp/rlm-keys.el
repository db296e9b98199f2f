;;; rlm-keys.el --- The keys of a buffer at a glance  -*- lexical-binding: t; -*-

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

;; A mode made from `org-mode' has hundreds of keys.  `rlm-keys-show' lists
;; those that its own keymap adds, each with the first line that its command
;; says of itself.

;;; Code:

(require 'cl-lib)
(require 'help-mode)
(require 'subr-x)

(defun rlm-keys-show (keymap title)
  "List the keys of KEYMAP, without those it inherits, under TITLE."
  (let ((rows (rlm-keys--rows keymap)))
    (help-setup-xref (list #'rlm-keys-show keymap title) nil)
    (with-help-window (help-buffer)
      (princ (format "%s  (C-h m tells all keys.)\n\n" title))
      (with-current-buffer standard-output
        (pcase-dolist (`(,command . ,keys) rows)
          (insert (format "%-10s " (string-join keys " ")))
          (insert-text-button (rlm-keys--first-line command)
                              'type 'help-function 'help-args (list command)
                              'face 'default)
          (insert "\n"))))))

(defconst rlm-keys--common '(digit-argument negative-argument undefined)
  "Commands that need not be told.")

(defun rlm-keys--rows (keymap)
  "Return (COMMAND . KEYS) for each command of KEYMAP, in the order of definition."
  (let (rows)
    (cl-labels ((look (map prefix)
                  (map-keymap
                   (lambda (event binding)
                     (let ((key (vconcat prefix (list event))))
                       (cond ((or (eq event 'remap) (memq binding rlm-keys--common)))
                             ((keymapp binding) (look binding key))
                             ((and (symbolp binding) (commandp binding))
                              (push (key-description key) (alist-get binding rows))))))
                   map)))
      (let ((own (copy-keymap keymap)))
        (set-keymap-parent own nil)
        (look (delq nil own) [])))
    rows))

(defun rlm-keys--first-line (command)
  "Return the first line of the documentation of COMMAND."
  (let ((definition (symbol-function command)))
    (when (autoloadp definition)
      (autoload-do-load definition command)))
  (substitute-command-keys
   (car (split-string (or (documentation command t) (symbol-name command)) "\n"))))

(provide 'rlm-keys)
;;; rlm-keys.el ends here
