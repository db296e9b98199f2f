;;; rlm-embark.el --- Actions of Embark on files, buffers and regions  -*- lexical-binding: t; -*-

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

;; Under the key ? of Embark's menus: a asks about the target, + adds it to
;; what is collected.
;;
;;   (with-eval-after-load 'embark (require 'rlm-embark))
;;
;; Embark need not be there for this file to load.

;;; Code:

(require 'cl-lib)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-add)
(require 'rlm-collection)
(require 'rlm-item)

(defvar embark-bookmark-map)
(defvar embark-buffer-map)
(defvar embark-file-map)
(defvar embark-region-map)
(defvar embark-target-injection-hooks)
(defvar embark-url-map)

(defun rlm-embark-ask-file (file)
  "Ask about FILE, which may be a directory."
  (interactive "fAsk about file: ")
  (rlm-ask-files (rlm-read-question (abbreviate-file-name file)) (list file)))

(defun rlm-embark-add-file (file)
  "Add FILE, which may be a directory, to what is collected."
  (interactive "fAdd file: ")
  (rlm-add-items (list (rlm-item-of-file file "Embark"))))

(defun rlm-embark-ask-buffer (buffer)
  "Ask about BUFFER."
  (interactive "bAsk about buffer: ")
  (with-current-buffer buffer
    (call-interactively #'rlm-ask-buffer)))

(defun rlm-embark-add-buffer (buffer)
  "Add BUFFER to what is collected."
  (interactive "bAdd buffer: ")
  (rlm-add-items (list (with-current-buffer buffer
                         (rlm-item-of-buffer "Embark")))))

(defun rlm-embark-map (ask add)
  "Return a keymap in which a is ASK, unless that is nil, and + is ADD."
  (let ((map (make-sparse-keymap)))
    (when ask
      (define-key map "a" ask))
    (define-key map "+" add)
    map))

(defun rlm-embark-setup ()
  "Give Embark's keymaps the key ?, and what is below it."
  (define-key embark-file-map "?" (rlm-embark-map #'rlm-embark-ask-file #'rlm-embark-add-file))
  (define-key embark-buffer-map "?"
    (rlm-embark-map #'rlm-embark-ask-buffer #'rlm-embark-add-buffer))
  (define-key embark-region-map "?" (rlm-embark-map #'rlm-ask-region #'rlm-add))
  (define-key embark-url-map "?" (rlm-embark-map nil #'rlm-add-url))
  (define-key embark-bookmark-map "?" (rlm-embark-map nil #'rlm-add-bookmark))
  ;; They begin with the question, which the target is not.
  (dolist (command '(rlm-ask rlm-ask-region rlm-ask-buffer rlm-ask-project rlm-ask-dired
                     rlm-ask-collection))
    (cl-pushnew 'embark--ignore-target (alist-get command embark-target-injection-hooks))))

(when (require 'embark nil t)
  (rlm-embark-setup))

(provide 'rlm-embark)
;;; rlm-embark.el ends here
