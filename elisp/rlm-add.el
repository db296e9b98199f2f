;;; rlm-add.el --- Collect what is meant, from anywhere  -*- lexical-binding: t; -*-

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

;; `rlm-add' adds to the current collection what is meant where it is
;; called: each of `rlm-add-functions' is asked in turn, and the first that
;; knows an answer gives it.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-context)
(require 'rlm-collection)
(require 'rlm-item)
(require 'rlm-matches)

(declare-function bookmark-all-names "bookmark" ())
(declare-function bookmark-bmenu-bookmark "bookmark" ())
(declare-function bookmark-get-filename "bookmark" (bookmark))
(declare-function bookmark-get-handler "bookmark" (bookmark))
(declare-function bookmark-jump "bookmark" (bookmark &optional display-func))
(declare-function bookmark-maybe-load-default-file "bookmark" ())
(declare-function ibuffer-current-buffer "ibuffer" (&optional must-be-live))
(declare-function ibuffer-get-marked-buffers "ibuffer" ())
(declare-function Info-find-file "info" (filename &optional noerror no-pop-to-dir))
(declare-function info-insert-file-contents "info" (filename &optional visit))
(declare-function org-at-heading-p "org" (&optional ignored))
(declare-function org-back-to-heading "org" (&optional invisible-ok))
(declare-function org-end-of-subtree "org" (&optional invisible-ok to-heading))
(declare-function org-get-heading "org" (&optional no-tags no-todo no-priority no-comment))
(declare-function rlm-dired-files "rlm-dired" ())
(declare-function rlm-dired-marked-p "rlm-dired" ())
(declare-function rlm-project-root "rlm-project" ())

(defvar eww-data)
(defvar Info-current-file)
(defvar Info-current-node)

(defcustom rlm-add-functions
  '(rlm-add-region rlm-add-dired rlm-add-ibuffer rlm-add-bookmarks rlm-add-matches
    rlm-add-compilation rlm-add-info rlm-add-page rlm-add-subtree rlm-add-buffer)
  "Functions that say what `rlm-add' adds, asked in this order.
Each is called without arguments where the command was called, and returns a
list of items, as `rlm-item-of-file', `rlm-item-of-part',
`rlm-item-of-buffer' and `rlm-item-of-text' make them, or nil if it can say
nothing of this place."
  :group 'rlm
  :type 'hook
  :package-version '(rlm . "0.1.0"))

;;;; The commands

;;;###autoload
(defun rlm-add (&optional whole)
  "Add to the collection what is meant.
That is the region if it is active, else what is marked in Dired, Ibuffer or
the list of bookmarks, else the files in which grep, xref or occur has found
something, else compilation output with the files that it names, else a node
of Info, a page of EWW, or the Org subtree whose heading point is on, else
the buffer, or its visible part if it is narrowed.
With a prefix argument, WHOLE, add the whole that it belongs to: in Info the
manual, elsewhere the project.  `rlm-context' shows what is collected."
  (interactive "P")
  (rlm-add-items (if whole
                     (rlm-add--whole)
                   (run-hook-with-args-until-success 'rlm-add-functions))))

(defun rlm-add-items (items)
  "Add ITEMS to the collection, and tell what was added."
  (unless items
    (user-error "There is nothing to add here"))
  (let ((new (rlm-collection-add items)))
    (when (use-region-p)
      (deactivate-mark))
    (message "%s; collected in all: %s"
             (rlm-add--report new (length items))
             (length (rlm-collection-items rlm-collection-current)))
    new))

(defun rlm-add--report (new count)
  "Return a few words on NEW, those of COUNT items that were not there yet."
  (cond ((null new) (if (= count 1) "It was there already" "They were there already"))
        ((cdr new) (format "Added %d things%s" (length new)
                           (if (< (length new) count)
                               (format " (%d were there)" (- count (length new)))
                             "")))
        (t (format "Added %s (%s)" (rlm-item-name (car new)) (rlm-item-why (car new))))))

(defun rlm-add--whole ()
  "Return the whole that this place belongs to, as a list of items."
  (if (derived-mode-p 'Info-mode)
      (rlm-add--manual)
    (require 'rlm-project)
    (let ((root (or (rlm-project-root)
                    (user-error "No project here; without a prefix the buffer is added"))))
      (list (rlm-item-of-file root "project")))))

;;;###autoload
(defun rlm-add-files (files)
  "Add FILES, a list of names of files and directories, to the collection.
Wildcards are expanded."
  (interactive (list (rlm-ask-read-files)))
  (rlm-add-items (mapcar (lambda (file) (rlm-item-of-file file "chosen")) files)))

;;;###autoload
(defun rlm-add-bookmark (name)
  "Add the place of the bookmark NAME to the collection."
  (interactive
   (progn
     (require 'bookmark)
     (bookmark-maybe-load-default-file)
     (list (rlm-read-one "Add bookmark: " (bookmark-all-names)))))
  (rlm-add-items (rlm-add--bookmark name)))

;;;; Regions and buffers

(defun rlm-add-region ()
  "Return the region, if it is active and stands for its text."
  (when (and (use-region-p)
             (not (derived-mode-p 'dired-mode 'ibuffer-mode 'bookmark-bmenu-mode)))
    (list (rlm-item-of-part (region-beginning) (region-end) "region"))))

(defun rlm-add-buffer ()
  "Return the current buffer, or its visible part if it is narrowed."
  (list (rlm-item-of-buffer "buffer")))

;;;; Lists in which things are marked

(defun rlm-add-dired ()
  "Return what is marked in this Dired buffer, else the file at point."
  (when (derived-mode-p 'dired-mode)
    (require 'rlm-dired)
    (let ((why (if (rlm-dired-marked-p) "marked in Dired" "Dired")))
      (mapcar (lambda (file) (rlm-item-of-file file why)) (rlm-dired-files)))))

(defun rlm-add-ibuffer ()
  "Return the buffers that are marked in this Ibuffer, else the one at point."
  (when (derived-mode-p 'ibuffer-mode)
    (let ((marked (ibuffer-get-marked-buffers)))
      (or (rlm-items-of-buffers (or marked (list (ibuffer-current-buffer t)))
                                (if marked "marked in Ibuffer" "Ibuffer"))
          (user-error (if (cdr marked) "These buffers are empty" "This buffer is empty"))))))

(defun rlm-add-bookmarks ()
  "Return the bookmarks that are marked in this list, else the one at point."
  (when (derived-mode-p 'bookmark-bmenu-mode)
    (let (names)
      (save-excursion
        (goto-char (point-min))
        (while (not (eobp))
          (when (looking-at-p ">")
            (push (bookmark-bmenu-bookmark) names))
          (forward-line)))
      (mapcan #'rlm-add--bookmark
              (or (nreverse names)
                  (list (or (bookmark-bmenu-bookmark)
                            (user-error "There is no bookmark here"))))))))

(defun rlm-add--bookmark (name)
  "Return the place of the bookmark NAME, as a list of items."
  (let ((file (bookmark-get-filename name))
        (why (format "bookmark %s" name)))
    (if (and file (not (bookmark-get-handler name)))
        (list (rlm-item-of-file file why))
      (let ((items (save-window-excursion
                     (save-current-buffer
                       (bookmark-jump name #'set-buffer)
                       (run-hook-with-args-until-success 'rlm-add-functions)))))
        (dolist (item items)
          (setf (rlm-item-why item) why))
        items))))

;;;; Org, Info and pages

(defun rlm-add-subtree ()
  "Return the subtree whose heading point is on, in an Org buffer."
  (when (and (derived-mode-p 'org-mode) (org-at-heading-p))
    (save-excursion
      (org-back-to-heading t)
      (list (rlm-item-of-part (point)
                              (save-excursion (org-end-of-subtree t t))
                              (format "subtree %s"
                                      (substring-no-properties
                                       (org-get-heading t t t t)))
                              t)))))

(defun rlm-add-info ()
  "Return the node of this Info buffer."
  (when (derived-mode-p 'Info-mode)
    (let ((name (rlm-add--node-name)))
      (list (rlm-item-of-text (buffer-substring-no-properties (point-min) (point-max))
                              name (concat "rlm-buffer:" name) "Info node")))))

(defun rlm-add--node-name ()
  "Return the name of the node of this Info buffer, as \"(MANUAL)NODE\"."
  (format "(%s)%s" (rlm-add--manual-name) Info-current-node))

(defun rlm-add--manual-name ()
  "Return the name of the manual of this Info buffer."
  (if (stringp Info-current-file)
      (file-name-sans-extension (file-name-nondirectory Info-current-file))
    (format "%s" Info-current-file)))

(defun rlm-add--manual ()
  "Return the manual of this Info buffer, as a list of one item."
  (unless (stringp Info-current-file)
    (user-error "This is no manual that stands in a file"))
  (let ((name (format "(%s)" (rlm-add--manual-name))))
    (list (rlm-item-of-text (rlm-add--manual-text Info-current-file) name
                            (concat "rlm-buffer:" name "Top") "Info manual"))))

(defun rlm-add--manual-text (manual)
  "Return the text of MANUAL, a file of Info, with those that it is split into."
  (let ((file (Info-find-file manual)))
    (with-temp-buffer
      (info-insert-file-contents file)
      (goto-char (point-min))
      (when (search-forward "\n\^_\nIndirect:\n" nil t)
        (let (parts)
          (while (looking-at "\\(.+\\): [0-9]+\n")
            (push (expand-file-name (match-string 1) (file-name-directory file)) parts)
            (forward-line))
          (erase-buffer)
          (dolist (part (nreverse parts))
            (goto-char (point-max))
            (info-insert-file-contents part))))
      (rlm-add--drop-tag-table)
      (replace-regexp-in-string "\^_\n?" "" (buffer-substring-no-properties
                                             (point-min) (point-max))))))

(defun rlm-add--drop-tag-table ()
  "Delete the table of tags at the end of the current buffer, a file of Info."
  (goto-char (point-min))
  (when (search-forward "\n\^_\nTag Table:\n" nil t)
    (delete-region (match-beginning 0) (point-max))))

(defun rlm-add-page ()
  "Return the page of this EWW buffer, as it is rendered."
  (when (derived-mode-p 'eww-mode)
    (let* ((url (plist-get eww-data :url))
           (title (string-trim (or (plist-get eww-data :title) ""))))
      (list (rlm-item-of-text (buffer-substring-no-properties (point-min) (point-max))
                              (if (string-empty-p title) (or url (buffer-name)) title)
                              (concat "rlm-buffer:" (or url (buffer-name)))
                              (or url "page"))))))

(provide 'rlm-add)
;;; rlm-add.el ends here
