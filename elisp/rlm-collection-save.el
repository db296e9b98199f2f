;;; rlm-collection-save.el --- Collections that are kept under a name  -*- lexical-binding: t; -*-

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

;; What is saved under a name is read again in another session: files as they
;; are then, parts of buffers as the texts that they were.

;;; Code:

(require 'subr-x)
(require 'url-util)
(require 'rlm-ask)
(require 'rlm-collection)
(require 'rlm-context)
(require 'rlm-item)
(require 'rlm-private)

(defcustom rlm-collection-directory (locate-user-emacs-file "rlm/collections/")
  "Directory of the saved collections, each in a private file of its own."
  :group 'rlm
  :type 'directory
  :package-version '(rlm . "0.1.0"))

(defvar rlm-collection-history nil
  "Names of collections that were entered before.")

(defconst rlm-collection--longest 240
  "How many bytes the name of the file of a collection may have.
What is written first has a name that is somewhat longer.")

(defun rlm-collection--file (name)
  "Return the name of the file with the collection NAME."
  (expand-file-name (concat (url-hexify-string name) ".eld") rlm-collection-directory))

(defun rlm-collection-names ()
  "Return the names of the saved collections."
  (and (file-directory-p rlm-collection-directory)
       (mapcar (lambda (file) (decode-coding-string
                               (url-unhex-string (file-name-sans-extension file)) 'utf-8))
               (directory-files rlm-collection-directory nil "\\`[^#]+\\.eld\\'"))))

(defun rlm-collection-read-new-name (prompt default names)
  "Read with PROMPT a name to save under; DEFAULT is that of before, or nil.
NAMES are completed, but another may be entered; the user is asked before
one of them is used again."
  (let ((name (rlm-collection--read-any-name prompt default names)))
    (unless (or (equal name default)
                (not (member name names))
                (y-or-n-p (format "Replace %s? " name)))
      (user-error "Not saved"))
    name))

(defun rlm-collection--read-any-name (prompt default names)
  "Read with PROMPT a name, by default DEFAULT; NAMES are completed."
  (minibuffer-with-setup-hook
      (lambda ()
        ;; Names may have blanks and question marks.
        (use-local-map (make-composed-keymap '(keymap (?\s . self-insert-command)
                                                      (?? . self-insert-command))
                                             (current-local-map))))
    (completing-read (format-prompt prompt default) names nil nil nil
                     'rlm-collection-history default)))

;;;###autoload
(defun rlm-save-collection (name)
  "Save what is collected under NAME, to be asked about again.
Files and directories are saved by their names, parts of buffers as the
text that they are now."
  (interactive
   (progn
     (when (rlm-collection-empty-p)
       (user-error "Nothing is collected"))
     (list (rlm-collection-read-new-name "Save the collection as"
                                         (rlm-collection-name rlm-collection-current)
                                         (rlm-collection-names)))))
  (when (string-blank-p name)
    (user-error "A collection needs a name"))
  (when (> (length (file-name-nondirectory (rlm-collection--file name)))
           rlm-collection--longest)
    (user-error "This name is too long for the name of a file"))
  (rlm-private-write
   (rlm-collection--file name)
   (list :version 1 :name name
         :items (mapcar #'rlm-item--saved (rlm-collection-items rlm-collection-current))))
  (setf (rlm-collection-name rlm-collection-current) name
        (rlm-collection-modified rlm-collection-current) nil)
  (rlm-collection--changed)
  (message "Saved as %s" name))

(defun rlm-item--saved (item)
  "Return what is saved of ITEM, a plist."
  (append (list :name (rlm-item-name item) :why (rlm-item-why item))
          (pcase (rlm-item-kind item)
            ('part (rlm-item--saved-part item))
            ('text (list :kind 'text :source (rlm-item-source item)
                         :text (rlm-item-text item)))
            (kind (list :kind kind :file (rlm-item-file item))))))

(defun rlm-item--saved-part (item)
  "Return what is saved of ITEM, a part: its text."
  (unless (rlm-item-buffer item)
    (user-error "%s is gone; remove it in the list of `rlm-context'" (rlm-item-name item)))
  (with-current-buffer (rlm-item-buffer item)
    (save-restriction
      (widen)
      (list :kind 'text
            :source (list :name (rlm-context-name) :origin (rlm-context-origin)
                          :firstLine (line-number-at-pos (rlm-item-beg item)))
            :text (buffer-substring-no-properties (rlm-item-beg item) (rlm-item-end item))))))

(defun rlm-collection--read-name (prompt)
  "Read with PROMPT the name of a saved collection."
  (let ((names (rlm-collection-names)))
    (unless names
      (user-error "No collection is saved"))
    (rlm-read-one prompt names 'rlm-collection-history)))

;;;###autoload
(defun rlm-load-collection (name)
  "Let the collection that is saved under NAME be the current one."
  (interactive
   (let ((name (rlm-collection--read-name "Load collection: ")))
     (rlm-collection--check-saved)
     (list name)))
  (let ((saved (rlm-private-read (rlm-collection--file name))))
    (unless (and (proper-list-p saved) (eql (plist-get saved :version) 1))
      (user-error "The file of the collection %s can't be read" name))
    (let ((loaded (rlm-collection--make :name name)))
      (setf (rlm-collection-items loaded)
            (mapcar (lambda (item) (rlm-item--restored item loaded))
                    (plist-get saved :items)))
      (rlm-collection--replace loaded))
    (message "The collection %s: %d things" name
             (length (rlm-collection-items rlm-collection-current)))))

(defun rlm-item--restored (saved collection)
  "Return the item of COLLECTION that SAVED, a plist, describes."
  (let ((item (rlm-item--make :kind (plist-get saved :kind) :name (plist-get saved :name)
                              :why (plist-get saved :why) :file (plist-get saved :file)
                              :source (plist-get saved :source))))
    (when (eq (rlm-item-kind item) 'text)
      (with-temp-buffer
        (insert (plist-get saved :text))
        (setf (rlm-item-file item)
              (rlm-context-spool-region (rlm-collection-store collection)
                                        (point-min) (point-max)))))
    item))

;;;###autoload
(defun rlm-delete-collection (name)
  "Delete the collection that is saved under NAME.
If it is the current one, what is collected stays."
  (interactive
   (let ((name (rlm-collection--read-name "Delete collection: ")))
     (unless (y-or-n-p (format "Delete the saved collection %s? " name))
       (user-error "Not deleted"))
     (list name)))
  (delete-file (rlm-collection--file name))
  (when (equal name (rlm-collection-name rlm-collection-current))
    (setf (rlm-collection-name rlm-collection-current) nil)
    (rlm-collection--changed t))
  (message "Deleted"))

(provide 'rlm-collection-save)
;;; rlm-collection-save.el ends here
