;;; rlm-collection.el --- Things that a question will be about  -*- lexical-binding: t; -*-

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

;; A collection is a list of items.  One collection is the current one;
;; `rlm-add' adds to it, `rlm-context' shows it, and `rlm-ask' asks about it.
;; Parts of a buffer become texts, in a private directory, when the buffer is
;; killed.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-context)
(require 'rlm-context-files)
(require 'rlm-item)

;;;; Collections

(cl-defstruct (rlm-collection (:constructor rlm-collection--make) (:copier nil))
  "Things that a question will be about."
  (name nil :documentation "The name that it is saved under, or nil.")
  (modified nil :documentation "Non-nil if it has changed since it was saved or loaded.")
  (items nil :documentation "List of items, in the order in which they were added.")
  (store (rlm-context-blank) :documentation "Context whose spool holds the texts."))

(defvar rlm-collection-current (rlm-collection--make)
  "The collection that things are added to.")

(defvar rlm-collection-changed-hook nil
  "Hook run when the current collection has changed.")

(defun rlm-collection-empty-p ()
  "Return non-nil if nothing is collected."
  (null (rlm-collection-items rlm-collection-current)))

(defun rlm-collection-label (&optional collection)
  "Return a few words for COLLECTION, the current one by default."
  (let* ((collection (or collection rlm-collection-current))
         (items (rlm-collection-items collection)))
    (cond ((rlm-collection-name collection)
           (format "collection %s" (rlm-collection-name collection)))
          ((cdr items) (format "%d collected things" (length items)))
          (items (rlm-item-name (car items)))
          (t "nothing"))))

(defun rlm-collection--changed (&optional items)
  "Tell those who want to know that the current collection has changed.
ITEMS is non-nil if there are other things in it than before."
  (when items
    (setf (rlm-collection-modified rlm-collection-current) t))
  (run-hooks 'rlm-collection-changed-hook))

(defun rlm-item-of-text (text name origin why)
  "Return TEXT, called NAME, as an item that is there for WHY.
ORIGIN says where evidence in it points to, as in the protocol.
The text is kept as it is now, whatever becomes of the buffer it is from."
  (with-temp-buffer
    (insert text)
    (unless (rlm-context-text-p (point-min) (point-max))
      (user-error "There is no text in it"))
    (rlm-item--make
     :kind 'text :why why :name name
     :file (rlm-context-spool-region (rlm-collection-store rlm-collection-current)
                                     (point-min) (point-max))
     :source (list :name (rlm-context-plain-name name)
                   :origin origin :firstLine 1))))

;;;; Adding and removing

(defun rlm-collection-add (items)
  "Add ITEMS to the current collection; return those that were not there yet."
  (let ((known (make-hash-table :test #'equal)) new)
    (cl-flet ((put (item) (push item (gethash (rlm-item-likeness item) known))))
      (mapc #'put (rlm-collection-items rlm-collection-current))
      (dolist (item items)
        (if (seq-some (lambda (other) (rlm-item-same-p item other))
                      (gethash (rlm-item-likeness item) known))
            (rlm-item--release item)
          (put item)
          (push item new))))
    (setq new (nreverse new))
    (mapc #'rlm-collection--watch-buffer new)
    (cl-callf append (rlm-collection-items rlm-collection-current) new)
    (when new
      (rlm-collection--changed t))
    new))

(defun rlm-collection-remove (items)
  "Remove ITEMS from the current collection."
  (cl-callf2 seq-remove (lambda (item) (memq item items))
             (rlm-collection-items rlm-collection-current))
  (mapc #'rlm-item--release items)
  (rlm-collection--changed t))

(defun rlm-item--release (item)
  "Let nothing of ITEM, which is in no collection, stay behind."
  (pcase (rlm-item-kind item)
    ('part (set-marker (rlm-item-beg item) nil)
           (set-marker (rlm-item-end item) nil))
    ('text (ignore-errors (delete-file (rlm-item-file item))))))

;;;###autoload
(defun rlm-clear-collection ()
  "Forget everything that is collected, and begin a new collection.
What is saved under a name stays saved."
  (interactive (rlm-collection--check-saved))
  (rlm-collection--replace (rlm-collection--make))
  (message "Nothing is collected now"))

(defun rlm-collection--check-saved ()
  "Quit unless what is collected is saved, or the user agrees to forget it."
  (unless (or (rlm-collection-empty-p)
              (not (rlm-collection-modified rlm-collection-current))
              (y-or-n-p (format "Forget %s, which is not saved? " (rlm-collection-label))))
    (user-error "It stays")))

(defun rlm-collection--replace (collection)
  "Let COLLECTION be the current one, and forget the one that was."
  (let ((old rlm-collection-current))
    (setq rlm-collection-current collection)
    (mapc #'rlm-item--release (rlm-collection-items old))
    (rlm-context-release (rlm-collection-store old))
    (rlm-collection--changed)))

;;;; Buffers that are killed

(defun rlm-collection--watch-buffer (item)
  "See to it that ITEM outlives its buffer, if it has one."
  (when-let ((buffer (rlm-item-buffer item)))
    (with-current-buffer buffer
      (add-hook 'kill-buffer-hook #'rlm-collection--freeze-buffer nil t))))

(defun rlm-collection--freeze-buffer ()
  "Keep what is collected of the current buffer, which is about to be killed."
  (let ((buffer (current-buffer)))
    (dolist (item (rlm-collection-items rlm-collection-current))
      (when (and (eq (rlm-item-kind item) 'part)
                 (eq (rlm-item-buffer item) buffer))
        (with-demoted-errors "rlm: what is collected can't be kept: %S"
          (rlm-item--freeze item (rlm-collection-store rlm-collection-current)))))))

(defun rlm-item--freeze (item store)
  "Make ITEM, a part, a text that is kept in STORE."
  (with-current-buffer (rlm-item-buffer item)
    (let ((source (rlm-context-part-source
                   store (marker-position (rlm-item-beg item))
                   (marker-position (rlm-item-end item)))))
      (set-marker (rlm-item-beg item) nil)
      (set-marker (rlm-item-end item) nil)
      (setf (rlm-item-kind item) 'text
            (rlm-item-beg item) nil
            (rlm-item-end item) nil
            (rlm-item-file item) (plist-get source :path)
            (rlm-item-source item) (list :name (plist-get source :name)
                                         :origin (plist-get source :origin)
                                         :firstLine (plist-get source :firstLine))))))

;;;; What is asked about

(defun rlm-collection-context (&optional items label)
  "Return ITEMS, by default those of the current collection, as a context.
LABEL says what they are in a few words."
  (let* ((items (or items (rlm-collection-items rlm-collection-current)
                    (user-error "Nothing is collected: add something with `rlm-add'")))
         (label (or label (rlm-collection-label)))
         (base (rlm-collection--base items))
         (files (rlm-collection--files items))
         (context (rlm-context-make label (or (seq-find #'file-remote-p files) "/"))))
    (rlm-context-spooling context
      (setf (rlm-context-sources context)
            (mapcar (lambda (item) (rlm-item--source context item base (cdr items))) items))
      (when files
        (rlm-context-add-unsaved context files))
      (setf (rlm-context-maker context)
            (lambda () (rlm-collection-context items label))))))

(defun rlm-item--source (context item base among-others)
  "Return ITEM as a source of CONTEXT, named relative to BASE.
A directory is named only AMONG-OTHERS."
  (when (rlm-item-gone-p item)
    (user-error "%s is gone; remove it in the list of `rlm-context'" (rlm-item-name item)))
  (pcase (rlm-item-kind item)
    ('part (with-current-buffer (rlm-item-buffer item)
             (rlm-context-part-source context (marker-position (rlm-item-beg item))
                                      (marker-position (rlm-item-end item)))))
    ('text (append (list :kind "file" :path (rlm-item-file item)) (rlm-item-source item)))
    (_ (rlm-context-source-of-file context (directory-file-name (rlm-item-file item))
                                      base among-others))))

(defun rlm-collection--files (items)
  "Return the files and directories of ITEMS."
  (delq nil (mapcar (lambda (item)
                      (and (memq (rlm-item-kind item) '(file directory))
                           (rlm-item-file item)))
                    items)))

(defun rlm-collection--base (items)
  "Return the directory that all files of ITEMS are in, or nil for less than two."
  (let ((files (rlm-collection--files items)))
    (and (cdr files)
         (let ((common (file-name-directory (try-completion "" files))))
           ;; A directory of the list has to have a name below it.
           (if (member common files)
               (file-name-directory (directory-file-name common))
             common)))))

;;;###autoload
(defun rlm-ask-collection (question &optional options)
  "Ask QUESTION about everything that is collected.
With a prefix argument, choose the models first.  From Lisp, OPTIONS is a
plist as for `rlm-ask-about'."
  (interactive
   (progn
     (when (rlm-collection-empty-p)
       (user-error "Nothing is collected: add something with `rlm-add'"))
     (let ((options (rlm-read-options)))
       (list (rlm-read-question (rlm-collection-label)) options))))
  (rlm-ask-about question (rlm-collection-context) options))

(provide 'rlm-collection)
;;; rlm-collection.el ends here
