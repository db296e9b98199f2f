;;; rlm-variables.el --- The variables of a run  -*- lexical-binding: t; -*-

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

;; A list of the variables that the code of a run has made, and a buffer for
;; the value of one, page by page.  The server describes them, in the sandbox:
;; whatever they are, nothing of them comes here but text.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-org)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-steer)
(require 'rlm-table)

(defconst rlm-variables--page 16384
  "Characters of a value that are asked for at once.")

;;;; The list

(defvar-local rlm-variables--of nil
  "Whose variables this buffer shows: a run's id, and a node's.")

(defvar rlm-variables-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'rlm-variables-inspect)
    map)
  "Keys of `rlm-variables-mode'.")

(define-derived-mode rlm-variables-mode rlm-table-mode "rlm variables"
  "Major mode of the list of a run's variables.

\\{rlm-variables-mode-map}"
  :interactive nil
  (setq rlm-table-method 'rlm/variables
        rlm-table-params-function #'rlm-variables--params
        rlm-table-rows-function #'rlm-variables--rows
        tabulated-list-format
        (rlm-table-columns '("Name" 22) '("Type" 16) '("Length" 10 number)
                           '("Size" 10 number) '("Value" 40)))
  (tabulated-list-init-header))

(defun rlm-variables (run &optional node)
  "List the variables that the code of RUN has made.
Interactively, where point is in a child run, those of that one: NODE.  RET
there shows one of them whole.  While code runs, they can't be seen."
  (interactive
   (let ((run (rlm-steer--run)))
     (list run (rlm-steer--node run))))
  (rlm-rpc-use-host (rlm-run-host run))
  (let ((of (list (rlm-run-id run) (or node "0"))))
    (with-current-buffer (get-buffer-create "*rlm variables*")
      (unless (derived-mode-p 'rlm-variables-mode)
        (rlm-variables-mode))
      (unless (equal of rlm-variables--of)
        (setq tabulated-list-entries nil))
      (setq rlm-variables--of of))
    (rlm-table-show "*rlm variables*" 'rlm-variables-mode)))

(defun rlm-variables--params ()
  "Return the parameters of the request for the variables of this buffer."
  (list :runId (car rlm-variables--of) :node (cadr rlm-variables--of)))

(defun rlm-variables--rows (answer)
  "Return a row for each variable of ANSWER, the server's."
  (setq mode-line-process
        (format " %s, %s used" (rlm-figure-count (plist-get answer :count) "variable")
                (rlm-figure-size (plist-get answer :memory))))
  (mapcar #'rlm-variables--row (plist-get answer :variables)))

(defun rlm-variables--row (variable)
  "Return the row of VARIABLE, a plist."
  (let ((length (plist-get variable :length))
        (bytes (plist-get variable :bytes)))
    (list (plist-get variable :name)
          (vector (rlm-org-line (plist-get variable :name))
                  (rlm-org-line (plist-get variable :type))
                  (rlm-table-cell length (if length (rlm-figure-number length) ""))
                  (rlm-table-cell bytes (rlm-figure-size bytes))
                  (rlm-org-line (plist-get variable :preview) 200)))))

;;;; One variable

(defvar-local rlm-variable--of nil
  "What this buffer shows: a run's id, a node's, and a name.")

(defvar-local rlm-variable--shown 0
  "Characters of the value that are shown.")

(defvar-local rlm-variable--asking nil
  "Non-nil while a page is awaited.")

(defvar rlm-variable-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'rlm-variable-more)
    (define-key map "q" #'quit-window)
    map)
  "Keys of `rlm-variable-mode'.")

(define-derived-mode rlm-variable-mode special-mode "rlm variable"
  "Major mode of the value of a variable.

\\{rlm-variable-mode-map}"
  :interactive nil
  (setq truncate-lines nil word-wrap t)
  (setq bidi-paragraph-direction 'left-to-right))

(defun rlm-variables-inspect ()
  "Show the value of the variable in this line."
  (interactive nil rlm-variables-mode)
  (let ((name (or (tabulated-list-get-id) (user-error "There is no variable here")))
        (of rlm-variables--of))
    (pop-to-buffer (generate-new-buffer (format "*rlm variable: %s*" (rlm-org-line name 50))))
    (rlm-variable-mode)
    (setq rlm-variable--of (append of (list name)))
    (rlm-variable-more)))

(defun rlm-variable-more ()
  "Show more of the value of this buffer's variable."
  (interactive nil rlm-variable-mode)
  (unless rlm-variable--asking
    (setq rlm-variable--asking t)
    (let ((buffer (current-buffer)))
      (pcase-let ((`(,id ,node ,name) rlm-variable--of))
        (rlm-rpc-ask 'rlm/inspect
                     (list :runId id :node node :name name :start rlm-variable--shown
                           :length rlm-variables--page)
                     (lambda (answer) (rlm-variable--add buffer answer))
                     (lambda (text) (rlm-variable--fail buffer text)))))))

(defun rlm-variable--add (buffer answer)
  "Show in BUFFER the page in ANSWER."
  (when (buffer-live-p buffer)
    (with-current-buffer buffer
      (setq rlm-variable--asking nil)
      (let ((inhibit-read-only t)
            (total (plist-get answer :characters)))
        (save-excursion
          (goto-char (point-max))
          (insert (plist-get answer :text)))
        (setq rlm-variable--shown (min total (+ rlm-variable--shown rlm-variables--page)))
        (setq header-line-format
              (format " %s, %s%s" (rlm-org-line (plist-get answer :type))
                      (rlm-figure-count total "character")
                      (if (< rlm-variable--shown total)
                          (format ", %s shown; RET shows more"
                                  (rlm-figure-number rlm-variable--shown))
                        "")))
        (set-buffer-modified-p nil)))))

(defun rlm-variable--fail (buffer text)
  "Say in BUFFER, or else in a message, why there is nothing to show: TEXT."
  (when (buffer-live-p buffer)
    (with-current-buffer buffer
      (setq rlm-variable--asking nil)
      (if (> (buffer-size) 0)
          (message "rlm: %s" text)
        (let ((inhibit-read-only t))
          (insert text "\n"))))))

(provide 'rlm-variables)
;;; rlm-variables.el ends here
