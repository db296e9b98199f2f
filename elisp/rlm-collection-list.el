;;; rlm-collection-list.el --- The list of what is collected  -*- lexical-binding: t; -*-

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

;; `rlm-context' shows the current collection as a list that can be sorted,
;; looked into and pruned.  Below it stands what a question about all of it
;; would read and could cost, as the server measures it; nothing is paid for
;; that.  The list follows the collection while it is there.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'tabulated-list)
(require 'rlm)
(require 'rlm-add)
(require 'rlm-collection)
(require 'rlm-collection-save)
(require 'rlm-context)
(require 'rlm-context-files)
(require 'rlm-item)
(require 'rlm-question)
(require 'rlm-run)
(require 'rlm-table)

(declare-function pulse-momentary-highlight-region "pulse" (start end &optional face))

(defvar pulse-flag)

(defconst rlm-collection-list--buffer "*rlm context*"
  "Name of the buffer with the list.")

(defvar-local rlm-collection-list--estimate nil
  "What stands below the list: a string.")

(defvar-local rlm-collection-list--foot nil
  "Overlay of all rows, which shows what stands below them.")

(defvar-local rlm-collection-list--asked nil
  "What the last estimate was asked about; that of an older one is dropped.")

;;;; The mode

(defvar rlm-collection-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'rlm-collection-visit)
    (define-key map (kbd "SPC") #'rlm-collection-preview)
    (define-key map [remap tabulated-list-sort] #'rlm-table-sort)
    (define-key map "a" #'rlm-ask-collection)
    (define-key map "k" #'rlm-collection-kill)
    (define-key map "d" #'rlm-collection-flag)
    (define-key map "u" #'rlm-collection-unflag)
    (define-key map "x" #'rlm-collection-execute)
    (define-key map "+" #'rlm-add-files)
    (define-key map "w" #'rlm-save-collection)
    (define-key map "l" #'rlm-load-collection)
    (define-key map "c" #'rlm-clear-collection)
    map)
  "Keys of `rlm-collection-mode'.")

(define-derived-mode rlm-collection-mode tabulated-list-mode "rlm context"
  "Major mode of the list of what is collected.

\\{rlm-collection-mode-map}"
  :interactive nil
  (setq tabulated-list-padding 2
        tabulated-list-format
        (rlm-table-columns '("Name" 36) '("Size" 9 number) '("Tokens" 11 number) '("Why" 30)))
  (setq-local revert-buffer-function (lambda (&rest _) (rlm-collection-list--refresh t))
              tabulated-list-printer #'rlm-table-print-row
              ;; Rows are drawn within it, so that it stays below them all.
              rlm-collection-list--foot (make-overlay (point-min) (point-max) nil nil t))
  (tabulated-list-init-header)
  (add-hook 'rlm-collection-changed-hook #'rlm-collection-list--follow))

;;;###autoload
(defun rlm-context ()
  "Show what is collected, to be looked into and pruned before it is asked about.
Below the list stands what a question about it would read and could cost."
  (interactive)
  (with-current-buffer (get-buffer-create rlm-collection-list--buffer)
    (unless (derived-mode-p 'rlm-collection-mode)
      (rlm-collection-mode))
    (pop-to-buffer (current-buffer))
    (rlm-collection-list--refresh t)))

(defun rlm-collection-list--follow ()
  "Show in the list, if there is one, what is collected now."
  (when-let ((buffer (get-buffer rlm-collection-list--buffer)))
    (with-current-buffer buffer
      (if (get-buffer-window buffer 'visible)
          (rlm-collection-list--refresh nil)
        (setq rlm-collection-list--asked nil
              rlm-collection-list--estimate "it has changed; g measures it")
        (rlm-collection-list--print)))))

(defun rlm-collection-list--refresh (again)
  "Show in the current buffer what is collected now, and measure it.
Directories are measured anew if AGAIN is non-nil, else only new ones."
  (let ((items (rlm-collection-items rlm-collection-current)))
    (setq rlm-collection-list--estimate nil
          rlm-collection-list--asked (list 'asked))
    (when items
      (rlm-collection-list--measure)
      (dolist (item items)
        (when (or again (null (rlm-item-seen item)))
          (rlm-item-look item))
        (when (and (eq (rlm-item-kind item) 'directory)
                   (or again (null (rlm-item-figures item))))
          (rlm-collection-list--measure-directory item))))
    (rlm-collection-list--print)))

;;;; Drawing

(defun rlm-collection-list--print ()
  "Draw the list."
  (rlm-table-draw (mapcar #'rlm-collection-list--row
                          (rlm-collection-items rlm-collection-current)))
  (overlay-put rlm-collection-list--foot 'after-string (rlm-collection-list--foot-text)))

(defun rlm-collection-list--row (item)
  "Return the row of ITEM."
  (let ((bytes (rlm-item-bytes item)))
    (list item
          (vector (propertize (rlm-collection-list--name item)
                              'face (if (rlm-item-seen-gone-p item) 'error 'default))
                  (rlm-table-cell bytes (if bytes (rlm-figure-size bytes)
                                          (if (rlm-item-seen-gone-p item) "gone" "...")))
                  (rlm-table-cell (and bytes (/ bytes 4)) (unless bytes "..."))
                  (rlm-collection-list--why item)))))

(defun rlm-collection-list--name (item)
  "Return the name of ITEM in one line."
  (replace-regexp-in-string "[ \t\n]+" " " (rlm-item-name item)))

(defun rlm-collection-list--why (item)
  "Return why ITEM is there, and which part of its buffer it is."
  (concat (rlm-item-why item)
          (pcase (rlm-item-kind item)
            ('directory
             (if-let ((documents (plist-get (rlm-item-figures item) :documents)))
                 (format ", %s" (rlm-figure-count documents "file"))
               ""))
            ((and 'part (guard (not (or (rlm-item-gone-p item) (rlm-item-whole-p item)))))
             (pcase-let ((`(,first . ,last) (rlm-item-lines item)))
               (if (= first last)
                   (format ", line %d" first)
                 (format ", lines %d-%d" first last))))
            (_ ""))))

(defun rlm-collection-list--total ()
  "Return what stands before the total: the name of the collection, if it has one."
  (if-let ((name (rlm-collection-name rlm-collection-current)))
      (format "Collection %s" name)
    "In all"))

(defun rlm-collection-list--foot-text ()
  "Return what stands below the rows."
  (if (rlm-collection-empty-p)
      (substitute-command-keys
       "Nothing is collected.  \\[rlm-add] adds what is meant where you are.\n")
    (format "\n%s\n"
            (rlm-collection-list--filled
             (format "%s: %s" (rlm-collection-list--total)
                     (or rlm-collection-list--estimate "measuring..."))))))

(defun rlm-collection-list--filled (text)
  "Return TEXT in lines that fit into the window: the cost stands at its end."
  (let ((window (get-buffer-window nil t)))
    (with-temp-buffer
      (insert text)
      (setq fill-column (max 40 (1- (if window (window-width window) (frame-width))))
            fill-prefix "  ")
      (goto-char (point-min))
      (insert fill-prefix)
      (let ((sentence-end-double-space nil)
            adaptive-fill-mode)
        (fill-region-as-paragraph (point-min) (point-max)))
      (string-trim-right (buffer-string)))))

;;;; Measuring

(defun rlm-collection-list--measure ()
  "Ask the server what a question about the collection would read and cost.
The answer is dropped if it is out of date by then."
  (let* ((buffer (current-buffer))
         (asked rlm-collection-list--asked)
         (say (lambda (text)
                (when (buffer-live-p buffer)
                  (with-current-buffer buffer
                    (when (eq asked rlm-collection-list--asked)
                      (setq rlm-collection-list--estimate text)
                      (rlm-collection-list--print)))))))
    (condition-case problem
        (rlm-question-estimate (rlm-collection-context)
                               (lambda (estimate)
                                 (funcall say (rlm-question-estimate-text estimate)))
                               say)
      ((user-error file-error)
       (setq rlm-collection-list--estimate (error-message-string problem))))))

(defun rlm-collection-list--measure-directory (item)
  "Ask the server how much there is in the directory that is ITEM."
  (unless (rlm-item-seen-gone-p item)
    (let ((buffer (current-buffer))
          (context (rlm-context-make "directory" (rlm-item-file item))))
      ;; What can't be asked about, or only when no run goes on elsewhere, stays
      ;; unmeasured; what stands below the list says why.
      (ignore-error user-error
        (setf (rlm-context-sources context)
              (list (rlm-context-source-of-file context (rlm-item-file item) nil nil)))
        (rlm-question-estimate context
                               (lambda (estimate)
                                 (setf (rlm-item-figures item)
                                       (list :bytes (plist-get estimate :bytes)
                                             :documents (plist-get estimate :documents)))
                                 (when (buffer-live-p buffer)
                                   (with-current-buffer buffer
                                     (rlm-collection-list--print))))
                               #'ignore)))))

;;;; Looking

(defun rlm-collection-list--item ()
  "Return the item in this line."
  (or (tabulated-list-get-id) (user-error "There is nothing in this line")))

(defun rlm-collection-visit ()
  "Visit in another window what is in this line."
  (interactive nil rlm-collection-mode)
  (rlm-collection-list--show (rlm-collection-list--item) #'pop-to-buffer))

(defun rlm-collection-preview ()
  "Show in another window what is in this line, and stay in the list."
  (interactive nil rlm-collection-mode)
  (let ((item (rlm-collection-list--item)))
    (save-selected-window
      (rlm-collection-list--show item #'pop-to-buffer))))

(defun rlm-collection-list--show (item display)
  "Show ITEM by the function DISPLAY, which gets its buffer."
  (when (rlm-item-gone-p item)
    (user-error "%s is gone" (rlm-item-name item)))
  (pcase (rlm-item-kind item)
    ('part (rlm-collection-list--show-part item display))
    ('text (funcall display (rlm-collection-list--text-buffer item)))
    (_ (funcall display (find-file-noselect (rlm-item-file item))))))

(defun rlm-collection-list--show-part (item display)
  "Show ITEM, a part, by the function DISPLAY, which gets its buffer."
  (require 'pulse)
  (let ((beg (marker-position (rlm-item-beg item)))
        (end (marker-position (rlm-item-end item))))
    (funcall display (rlm-item-buffer item))
    (unless (<= (point-min) beg end (point-max))
      (widen))
    (goto-char beg)
    (recenter 0)
    (unless (rlm-item-whole-p item)
      ;; Without the timer that lets it fade: until the next key.
      (let ((pulse-flag nil))
        (pulse-momentary-highlight-region beg end)))))

(defun rlm-collection-list--text-buffer (item)
  "Return a buffer with ITEM, a text."
  (with-current-buffer (get-buffer-create (format "*rlm text: %s*" (rlm-item-name item)))
    (let ((inhibit-read-only t))
      (erase-buffer)
      (insert (rlm-item-text item)))
    (special-mode)
    (goto-char (point-min))
    (current-buffer)))

;;;; Pruning

(defun rlm-collection-kill ()
  "Take what is in this line out of the collection."
  (interactive nil rlm-collection-mode)
  (rlm-collection-remove (list (rlm-collection-list--item))))

(defun rlm-collection-flag ()
  "Mark what is in this line to be taken out by \\[rlm-collection-execute]."
  (interactive nil rlm-collection-mode)
  (rlm-collection-list--item)
  (rlm-table-mark "D"))

(defun rlm-collection-unflag ()
  "Remove the mark in this line."
  (interactive nil rlm-collection-mode)
  (rlm-collection-list--item)
  (rlm-table-unmark))

(defun rlm-collection-execute ()
  "Take out of the collection what is marked."
  (interactive nil rlm-collection-mode)
  (let ((flagged (or (rlm-table-marked)
                     (user-error "Nothing is marked; d marks what is in a line"))))
    (rlm-collection-remove flagged)
    (message "%s taken out" (rlm-figure-count (length flagged) "thing"))))

(provide 'rlm-collection-list)
;;; rlm-collection-list.el ends here
