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
;; those that its own keymap adds, each with its label there.

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
        (pcase-dolist (`(,key ,label ,command) rows)
          (insert (format "%-10s " key))
          (insert-text-button label
                              'type 'help-function 'help-args (list command)
                              'face 'default)
          (insert "\n"))))))

(defun rlm-keys--rows (keymap)
  "Return (KEY LABEL COMMAND) for each key of KEYMAP that has a label, in order."
  (let (rows)
    (cl-labels ((look (map prefix)
                  (map-keymap
                   (lambda (event binding)
                     (let ((key (vconcat prefix (list event))))
                       (pcase binding
                         (`(,(and label (pred stringp)) . ,(and command (pred symbolp)))
                          (push (list (key-description key) label command) rows))
                         ((pred keymapp) (look binding key)))))
                   map)))
      (let ((own (copy-keymap keymap)))
        (set-keymap-parent own nil)
        (look own [])))
    rows))

(provide 'rlm-keys)
;;; rlm-keys.el ends here
