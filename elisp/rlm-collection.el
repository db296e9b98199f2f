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

;; A collection is a list of items: files, directories, parts of live
;; buffers, and texts whose buffer is gone.  One collection is the current
;; one; `rlm-add' adds to it, `rlm-context' shows it, and `rlm-ask' asks
;; about it.
;;
;; An item holds no text.  A file is read when it is asked about; a part is
;; followed by markers while its buffer lives, and written to a private
;; directory when the buffer is killed.  What is saved under a name is read
;; again in another session: files as they are then, texts as they were.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-context)
(require 'rlm-private)

(defcustom rlm-collection-directory (locate-user-emacs-file "rlm/collections/")
  "Directory of the saved collections, each in a private file of its own."
  :group 'rlm
  :type 'directory
  :package-version '(rlm . "0.1.0"))

;;;; Items and collections

(cl-defstruct (rlm-item (:constructor rlm-item--make) (:copier nil))
  "One thing in a collection."
  (kind 'file :documentation "One of the symbols file, directory, part and text.")
  (name "" :documentation "What it is called in lists.")
  (why "" :documentation "Why it is in the collection, in a few words.")
  (file nil :documentation "File or directory; of a text, the private file that holds it.")
  (beg nil :documentation "Marker at the start of a part.")
  (end nil :documentation "Marker at the end of a part.")
  (source nil :documentation "Plist of :name, :origin and :firstLine of a text.")
  (figures nil :documentation "What the server has measured of a directory, a plist.")
  (seen nil :documentation "What was found when its file was last looked at, a plist."))

(cl-defstruct (rlm-collection (:constructor rlm-collection--make) (:copier nil))
  "Things that a question will be about."
  (name nil :documentation "The name that it is saved under, or nil.")
  (modified nil :documentation "Non-nil if it has changed since it was saved or loaded.")
  (items nil :documentation "List of items, in the order in which they were added.")
  (store (rlm-context--make) :documentation "Context whose spool holds the texts."))

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

;;;; Making items

(defun rlm-item-of-file (file why)
  "Return FILE, which may be a directory, as an item that is there for WHY."
  (let ((file (expand-file-name file)))
    (rlm-item--make :kind (if (file-directory-p file) 'directory 'file)
                    :file (if (file-directory-p file) (file-name-as-directory file) file)
                    :name (abbreviate-file-name file)
                    :why why)))

(defun rlm-item-of-part (beg end why &optional grows)
  "Return the text from BEG to END as an item that is there for WHY.
The item follows the edits of the current buffer.  What is inserted right
after it belongs to it only if it GROWS."
  (rlm-context-check-region beg end)
  (let ((buffer (or (buffer-base-buffer) (current-buffer))))
    (rlm-item--make :kind 'part :why why :name (buffer-name)
                    :beg (copy-marker beg)
                    :end (with-current-buffer buffer (copy-marker end grows)))))

(defun rlm-item-of-buffer (why)
  "Return the current buffer, or its visible part, as an item there for WHY.
It is the buffer's file, if it has one that can be read as it is."
  (rlm-context-check-buffer)
  (let ((file (rlm-context--visited)))
    (cond ((buffer-narrowed-p)
           (rlm-item-of-part (point-min) (point-max) (concat why ", narrowed") t))
          ((and file (rlm-context--plain-p file (rlm-server-host-of file)))
           (rlm-item-of-file file why))
          (t (rlm-item-of-part (point-min) (point-max) why t)))))

(defun rlm-item-of-text (text name origin why)
  "Return TEXT, called NAME, as an item that is there for WHY.
ORIGIN says where evidence in it points to, as in the protocol.
The text is kept as it is now, whatever becomes of the buffer it is from."
  (with-temp-buffer
    (insert text)
    (rlm-context-check-region (point-min) (point-max))
    (rlm-item--make
     :kind 'text :why why :name name
     :file (rlm-context--spool (rlm-collection-store rlm-collection-current)
                               (point-min) (point-max))
     :source (list :name (rlm-context--plain-name name)
                   :origin origin :firstLine 1))))

;;;; Looking at items

(defun rlm-item-buffer (item)
  "Return the live buffer of ITEM, a part, or nil."
  (and (rlm-item-beg item) (marker-buffer (rlm-item-beg item))))

(defun rlm-item-lines (item)
  "Return the first and the last line of ITEM, a part, as a cons."
  (with-current-buffer (rlm-item-buffer item)
    (save-restriction
      (widen)
      (let ((end (marker-position (rlm-item-end item))))
        (cons (line-number-at-pos (rlm-item-beg item))
              (line-number-at-pos (if (eq (char-before end) ?\n) (1- end) end)))))))

(defun rlm-item-whole-p (item)
  "Return non-nil if ITEM, a part, is the whole of its buffer."
  (with-current-buffer (rlm-item-buffer item)
    (and (= (rlm-item-beg item) 1)
         (= (rlm-item-end item) (1+ (buffer-size))))))

(defun rlm-item-bytes (item)
  "Return the size of ITEM in bytes, or nil where it is not known."
  (pcase (rlm-item-kind item)
    ('directory (plist-get (rlm-item-figures item) :bytes))
    ('part (if (rlm-item-buffer item)
               (with-current-buffer (rlm-item-buffer item)
                 (save-restriction
                   (widen)
                   (- (position-bytes (rlm-item-end item))
                      (position-bytes (rlm-item-beg item)))))))
    (_ (plist-get (rlm-item-seen item) :bytes))))

(defun rlm-item-look (item)
  "Look how large the file of ITEM is, and whether it is there.
That may take long on another machine, so lists only show what was found."
  (unless (eq (rlm-item-kind item) 'part)
    (let ((there (file-exists-p (rlm-item-file item))))
      (setf (rlm-item-seen item)
            (list :gone (not there)
                  :bytes (and there (not (eq (rlm-item-kind item) 'directory))
                              (rlm-item--file-bytes (rlm-item-file item))))))))

(defun rlm-item-seen-gone-p (item)
  "Return non-nil if ITEM was not there when it was last looked at."
  (if (eq (rlm-item-kind item) 'part)
      (rlm-item-gone-p item)
    (plist-get (rlm-item-seen item) :gone)))

(defun rlm-item--file-bytes (file)
  "Return the bytes of FILE as it stands in its buffer, or nil."
  (let ((buffer (get-file-buffer file)))
    (if (and buffer (buffer-modified-p buffer))
        (with-current-buffer buffer
          (save-restriction
            (widen)
            (1- (position-bytes (point-max)))))
      (file-attribute-size (file-attributes file)))))

(defun rlm-item-gone-p (item)
  "Return non-nil if what ITEM stands for is not there any more."
  (if (eq (rlm-item-kind item) 'part)
      (not (rlm-item-buffer item))
    (not (file-exists-p (rlm-item-file item)))))

(defun rlm-item--likeness (item)
  "Return what is `equal' for all items that may be the same as ITEM."
  (pcase (rlm-item-kind item)
    ('part (rlm-item-buffer item))
    ('text (rlm-item-source item))
    (_ (rlm-item-file item))))

(defun rlm-item--same-p (one two)
  "Return non-nil if the items ONE and TWO stand for the same thing."
  (and (eq (rlm-item-kind one) (rlm-item-kind two))
       (pcase (rlm-item-kind one)
         ('part (and (eq (rlm-item-buffer one) (rlm-item-buffer two))
                     (rlm-item-buffer one)
                     (= (rlm-item-beg one) (rlm-item-beg two))
                     (= (rlm-item-end one) (rlm-item-end two))))
         ('text (and (equal (rlm-item-source one) (rlm-item-source two))
                     (rlm-item--same-text-p (rlm-item-file one) (rlm-item-file two))))
         (_ (string= (rlm-item-file one) (rlm-item-file two))))))

(defun rlm-item--same-text-p (one two)
  "Return non-nil if the files ONE and TWO hold the same."
  (or (string= one two)
      (and (eql (file-attribute-size (file-attributes one))
                (file-attribute-size (file-attributes two)))
           (string= (rlm-collection--text one) (rlm-collection--text two)))))

(defun rlm-collection--text (file)
  "Return the text in FILE, that of an item."
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8-emacs-unix))
      (insert-file-contents file))
    (buffer-string)))

;;;; Adding and removing

(defun rlm-collection-add (items)
  "Add ITEMS to the current collection; return those that were not there yet."
  (let ((known (make-hash-table :test #'equal)) new)
    (cl-flet ((put (item) (push item (gethash (rlm-item--likeness item) known))))
      (mapc #'put (rlm-collection-items rlm-collection-current))
      (dolist (item items)
        (if (seq-some (lambda (other) (rlm-item--same-p item other))
                      (gethash (rlm-item--likeness item) known))
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
    (let ((source (rlm-context--part-source
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
    (rlm-context--spooling context
      (setf (rlm-context-sources context)
            (mapcar (lambda (item) (rlm-item--source context item base (cdr items))) items))
      (when files
        (rlm-context--add-unsaved context files))
      (setf (rlm-context-maker context)
            (lambda () (rlm-collection-context items label))))))

(defun rlm-item--source (context item base among-others)
  "Return ITEM as a source of CONTEXT, named relative to BASE.
A directory is named only AMONG-OTHERS."
  (when (rlm-item-gone-p item)
    (user-error "%s is gone; remove it in the list of `rlm-context'" (rlm-item-name item)))
  (pcase (rlm-item-kind item)
    ('part (with-current-buffer (rlm-item-buffer item)
             (rlm-context--part-source context (marker-position (rlm-item-beg item))
                                       (marker-position (rlm-item-end item)))))
    ('text (append (list :kind "file" :path (rlm-item-file item)) (rlm-item-source item)))
    (_ (rlm-context--source context (directory-file-name (rlm-item-file item))
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

;;;; Saving and loading

(defvar rlm-collection-history nil
  "Names of collections that were entered before.")

(defun rlm-collection--file (name)
  "Return the name of the file with the collection NAME."
  (expand-file-name (concat (url-hexify-string name) ".eld") rlm-collection-directory))

(defun rlm-collection-names ()
  "Return the names of the saved collections."
  (and (file-directory-p rlm-collection-directory)
       (mapcar (lambda (file) (decode-coding-string
                               (url-unhex-string (file-name-sans-extension file)) 'utf-8))
               (directory-files rlm-collection-directory nil "\\`[^.].*\\.eld\\'"))))

(defun rlm-collection-read-new-name (prompt default names)
  "Read with PROMPT a name to save under; DEFAULT is that of before, or nil.
NAMES are completed, but another may be entered."
  (minibuffer-with-setup-hook
      (lambda ()
        ;; Names may have blanks.
        (use-local-map (make-composed-keymap '(keymap (?\s . self-insert-command))
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
     (let* ((default (rlm-collection-name rlm-collection-current))
            (name (rlm-collection-read-new-name
                   "Save the collection as" default (rlm-collection-names))))
       (unless (or (equal name default)
                   (not (member name (rlm-collection-names)))
                   (y-or-n-p (format "Replace the collection %s? " name)))
         (user-error "Not saved"))
       (list name))))
  (when (string-blank-p name)
    (user-error "A collection needs a name"))
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
                         :text (rlm-collection--text (rlm-item-file item))))
            (kind (list :kind kind :file (rlm-item-file item))))))

(defun rlm-item--saved-part (item)
  "Return what is saved of ITEM, a part: its text."
  (unless (rlm-item-buffer item)
    (user-error "%s is gone; remove it in the list of `rlm-context'" (rlm-item-name item)))
  (with-current-buffer (rlm-item-buffer item)
    (save-restriction
      (widen)
      (list :kind 'text
            :source (list :name (rlm-context--name) :origin (rlm-context--origin)
                          :firstLine (line-number-at-pos (rlm-item-beg item)))
            :text (buffer-substring-no-properties (rlm-item-beg item) (rlm-item-end item))))))

(defun rlm-collection--read-name (prompt)
  "Read with PROMPT the name of a saved collection."
  (let ((names (rlm-collection-names)))
    (unless names
      (user-error "No collection is saved"))
    (completing-read prompt names nil t nil 'rlm-collection-history)))

(defun rlm-collection--check-saved ()
  "Quit unless what is collected is saved, or the user agrees to forget it."
  (unless (or (rlm-collection-empty-p)
              (not (rlm-collection-modified rlm-collection-current))
              (y-or-n-p (format "Forget %s, which is not saved? " (rlm-collection-label))))
    (user-error "It stays")))

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
              (rlm-context--spool (rlm-collection-store collection)
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
    (rlm-collection--changed))
  (message "Deleted"))

(provide 'rlm-collection)
;;; rlm-collection.el ends here
